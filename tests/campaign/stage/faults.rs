use super::Stage;
use crate::callers::{LARGE_BYTES, MIDDLE_BYTES};
use crate::plan::{Damage, Fault, Target};
use crate::support::{Outage, PATIENCE, Tampered, wait_until};

/// As `receiver_rung` tells it.
const JOURNAL_FULL: f64 = 2.0;

/// What may be missing on a machine.
pub(super) const BROKER: &str = "faults of the broker";
pub(super) const FULL_DISK: &str = "full disk";
pub(super) const SLOW_DISK: &str = "slow disk";

/// How each fault begins and ends.
impl Stage {
    /// The name of what is missing here for this fault.
    pub(crate) fn hindrance(&self, fault: &Fault) -> Option<&'static str> {
        let needs = match (fault.target, fault.damage) {
            (Target::Broker, _) => BROKER,
            (_, Damage::FullDisk { .. }) => FULL_DISK,
            (_, Damage::SlowDisk { .. }) => SLOW_DISK,
            _ => return None,
        };
        self.skipped.contains_key(needs).then_some(needs)
    }

    pub(crate) fn begin(&mut self, fault: &Fault) {
        match (fault.target, fault.damage) {
            (Target::Receiver(index), damage) => self.begin_at_receiver(index, damage),
            (Target::Worker, Damage::Kill) => self.kill_worker(),
            (Target::Worker, Damage::Restart) => self.worker().ask_to_stop(),
            (Target::Worker, _) => self.worker().freeze(),
            (Target::Broker, Damage::Kill) => self.site.kafka.fail(Outage::Down),
            (Target::Broker, _) => self.site.kafka.fail(Outage::Frozen),
        }
    }

    /// Ends what [`Stage::begin`] began. Things need not be as before at once.
    pub(crate) fn end(&mut self, fault: &Fault) {
        match (fault.target, fault.damage) {
            (Target::Receiver(index), damage) => self.end_at_receiver(index, damage),
            (Target::Worker, Damage::Freeze) => self.worker().thaw(),
            (Target::Worker, damage) => {
                if damage == Damage::Restart {
                    self.worker.take().expect("a worker that was asked to stop").stopped();
                } else {
                    self.kill_worker();
                }
                self.start_worker();
            }
            (Target::Broker, Damage::Kill) => self.site.kafka.recover(Outage::Down),
            (Target::Broker, Damage::FreezeAndKill) => {
                self.site.kafka.fail(Outage::Down);
                self.site.kafka.recover(Outage::Down);
            }
            (Target::Broker, _) => self.site.kafka.recover(Outage::Frozen),
        }
    }

    fn begin_at_receiver(&mut self, index: usize, damage: Damage) {
        self.note_losses(index);
        let receiver = &mut self.receivers[index];
        match damage {
            Damage::Kill => {
                receiver.gate.disturb();
                receiver.process = None;
            }
            Damage::Freeze | Damage::FreezeAndKill => {
                receiver.gate.disturb();
                receiver.process().freeze();
            }
            Damage::Restart => {
                receiver.gate.disturb();
                receiver.process().ask_to_stop();
            }
            Damage::FullDisk { large } => {
                receiver.gate.fill(if large { LARGE_BYTES } else { MIDDLE_BYTES });
                self.disk.as_mut().expect("a small disk").fill();
            }
            Damage::SlowDisk { sync } => {
                let end = format!("delay_exit={}", sync.as_micros());
                let slow = Tampered::attach(receiver.process().id(), &end).expect("strace attaches");
                self.slowed.push((Target::Receiver(index), slow));
            }
        }
    }

    fn end_at_receiver(&mut self, index: usize, damage: Damage) {
        let receiver = &mut self.receivers[index];
        match damage {
            Damage::Kill | Damage::FreezeAndKill => {
                receiver.process = None;
                receiver.start(&self.site);
            }
            Damage::Restart => {
                receiver
                    .process
                    .take()
                    .expect("a receiver that was asked to stop")
                    .stopped();
                receiver.start(&self.site);
            }
            Damage::Freeze => receiver.process().thaw(),
            Damage::FullDisk { .. } => {
                // Where the broker stands still meanwhile; a test cluster goes on, and what it takes makes room.
                if self.site.kafka.is_real() {
                    wait_until("the receiver notices that its disk is full", PATIENCE, || {
                        receiver.process().metric("receiver_rung") == JOURNAL_FULL
                    });
                }
                receiver.gate.relieve();
                self.disk.as_mut().expect("a small disk").free();
            }
            Damage::SlowDisk { .. } => self.slowed.retain(|(target, _)| *target != Target::Receiver(index)),
        }
    }
}
