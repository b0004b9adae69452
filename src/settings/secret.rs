/// What stands in the place of a secret that is shown.
pub(crate) const MASK: &str = "***";

/// Whether a property of librdkafka holds a secret. By parts of its name, so that one of a later librdkafka is
/// masked too; the names of files and addresses are none, and a person needs to see them.
pub(crate) fn is_secret(property: &str) -> bool {
    const PARTS: [&str; 6] = ["password", "secret", "token", "key", "jaas", "oauthbearer.config"];
    const ENDS: [&str; 3] = [".location", ".url", ".keytab"];
    let name = property.to_lowercase();
    PARTS.iter().any(|part| name.contains(part)) && !ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn every_property_that_holds_a_secret_is_known_by_its_name() {
        for secret in [
            "sasl.password",
            "ssl.key.pem",
            "ssl.key.password",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
            "sasl.jaas.config",
            "SASL.PASSWORD",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for plain in [
            "security.protocol",
            "sasl.username",
            "ssl.ca.location",
            "ssl.key.location",
            "sasl.oauthbearer.token.endpoint.url",
            "socket.keepalive.enable",
        ] {
            assert!(!is_secret(plain), "{plain}");
        }
    }
}
