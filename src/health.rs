use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Less than a container runtime waits for its check.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// For the health check of a container, whose image has neither shell nor curl.
#[derive(Args)]
pub(crate) struct Health {
    /// What is asked
    #[arg(long, default_value = "http://127.0.0.1:9090/ready")]
    url: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

impl Health {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let (holds, answer) = match self.ask() {
            Ok(asked) => asked,
            Err(error) => (false, json!({"ready": false, "error": error.to_string()})),
        };
        if self.json {
            writeln!(out, "{answer}")?;
        }
        if !self.json {
            self.tell(holds, &answer, out)?;
        }
        if holds { Ok(()) } else { Err(Failure::DoesNotHold) }
    }

    fn ask(&self) -> Result<(bool, Value), ureq::Error> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .http_status_as_error(false)
            .proxy(None);
        let mut answer = ureq::Agent::from(config.build()).get(&self.url).call()?;
        let body = answer.body_mut().read_to_string()?;
        let read = serde_json::from_str(&body);
        let read = read.unwrap_or_else(|_| json!({"status": answer.status().as_u16(), "body": body.trim()}));
        Ok((answer.status() == 200, read))
    }

    fn tell(&self, holds: bool, answer: &Value, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "{}: {}", self.url, if holds { "ready" } else { "not ready" })?;
        let Some(latches) = answer["latches"].as_object() else {
            writeln!(out, "  {answer}")?;
            return Ok(());
        };
        for (name, latch) in latches {
            let ready = if latch["ready"] == true { "ready" } else { "not ready" };
            writeln!(
                out,
                "  {name}: {ready}, {}",
                latch["reason"].as_str().unwrap_or_default()
            )?;
        }
        Ok(())
    }
}
