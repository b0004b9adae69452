//! Durations and sizes as an operator writes them: `300ms`, `10m`, `64KiB`.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// What [`duration`] accepts, for error messages.
pub const DURATION_FORM: &str = "a duration such as \"300ms\", \"60s\", \"10m\", \"1h\", \"7d\"";
/// What [`bytes`] accepts, for error messages.
pub const BYTES_FORM: &str = "a size such as \"64KiB\", \"4GiB\"";

/// A whole number and a unit of `ms`, `s`, `m`, `h`, `d`, without a blank.
pub fn duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS).map(Duration::from_millis)
}

/// A whole number and a unit of `B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`, without a blank.
pub fn bytes(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

/// The duration in its largest unit that keeps it whole, as [`duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show(millis, &DURATIONS)
}

/// The size in its largest binary unit that keeps it whole, as [`bytes`] reads it.
pub fn show_bytes(bytes: u64) -> String {
    show(bytes, &SIZES[..4])
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `units` from the smallest on; zero is zero of the smallest.
fn show(value: u64, units: &[(&str, u64)]) -> String {
    let whole = units
        .iter()
        .rev()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    let (unit, factor) = whole.unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::{bytes, duration, show_bytes, show_duration};
    use std::time::Duration;

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for text in ["300ms", "60s", "10m", "1h", "7d", "90s"] {
            let read = duration(text).expect(text);
            assert_eq!(duration(&show_duration(read)), Some(read));
        }
        for text in ["64KiB", "4GiB", "1000B"] {
            let read = bytes(text).expect(text);
            assert_eq!(bytes(&show_bytes(read)), Some(read));
        }
        assert_eq!(show_duration(Duration::from_secs(60)), "1m");
    }

    #[test]
    fn a_number_without_unit_or_beyond_64_bits_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "1.5h",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(bytes("64kib"), None);
    }
}
