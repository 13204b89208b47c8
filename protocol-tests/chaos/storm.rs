//! All of it at once, by chance: kferrys are killed, fall asleep, wake up and start beside each other, while the target
//! hangs, is killed and comes back.

use std::time::Duration;

use crate::data::{Age, Data, report};
use crate::kafka::{KafkaCluster, Signal, Version};
use crate::kferry::{Outcome, Running};
use crate::{LONGEST_RUN, by_magnitude, other, pause, rounds};

const BLOWS: usize = 12;

/// Some thirty seconds for all of the data.
const RATE: &str = "500KB";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    /// Another one starts beside those that run.
    Join,
    Sleep,
    Wake,
    KillTarget,
    FreezeTarget,
}

/// Where records are old and the target was killed, sequence numbers protect from nobody: there only one kferry runs at a
/// time.
const OF_OLD_RECORDS: &[Blow] = &[Blow::Kill, Blow::Kill, Blow::Kill, Blow::KillTarget, Blow::FreezeTarget];
const OF_NEW_RECORDS: &[Blow] = &[
    Blow::Kill,
    Blow::Kill,
    Blow::Join,
    Blow::Sleep,
    Blow::Wake,
    Blow::KillTarget,
    Blow::FreezeTarget,
];

/// kferrys of one flow, each of which may believe that it is its own.
#[derive(Default)]
struct Crowd {
    awake: Vec<Running>,
    asleep: Vec<Running>,
    ended: Vec<Outcome>,
}

impl Crowd {
    fn take_any(crowd: &mut Vec<Running>) -> Option<Running> {
        let any = fastrand::choice(0..crowd.len())?;
        Some(crowd.swap_remove(any))
    }

    /// Those that have ended by themselves are set aside.
    fn sort_out(&mut self) {
        for mut running in std::mem::take(&mut self.awake) {
            match running.has_ended() {
                true => self.ended.push(running.wait_unverified()),
                false => self.awake.push(running),
            }
        }
    }

    fn wake_all(&mut self) {
        for sleeper in self.asleep.drain(..) {
            sleeper.signal(Signal::Continue);
            self.awake.push(sleeper);
        }
    }

    /// All that are left come to their end.
    fn finish(mut self) -> Vec<Outcome> {
        self.wake_all();
        let rest = self.awake.into_iter().map(Running::wait_unverified);
        self.ended.into_iter().chain(rest).collect()
    }
}

fn storm(version: Version, age: Age) {
    let source = other(version);
    let choices = match age {
        Age::New => OF_NEW_RECORDS,
        Age::Old => OF_OLD_RECORDS,
    };
    for round in 0..rounds() {
        let target = KafkaCluster::start(version, &[]);
        let name = format!("storm-{age:?}-{}-{round}", version.release()).to_lowercase();
        let mut data = Data::write(&name, source, age);
        let mut crowd = Crowd::default();
        let mut blows = Vec::new();
        for _ in 0..BLOWS {
            crowd.sort_out();
            let blow = *fastrand::choice(choices).expect("some");
            if crowd.awake.is_empty() || blow == Blow::Join {
                crowd
                    .awake
                    .push(data.copy(source, &target).arg("--max-rate", RATE).start());
            }
            pause(by_magnitude(LONGEST_RUN));
            strike(blow, &mut crowd, &target, &data);
            blows.push(blow);
        }

        let outcomes = crowd.finish();
        let last = data.copy(source, &target).run();

        outcomes.iter().for_each(|outcome| data.heed(&outcome.stderr));
        data.assert_promised(&last);
        let records = data.assert_exactly_once(source, &target);
        let count = |kind| blows.iter().filter(|blow| **blow == kind).count();
        let what = format!(
            "records {age:?}, {} kills, {} sleepers, {} beside others, target killed {} and frozen {} times, {} left to do",
            count(Blow::Kill),
            count(Blow::Sleep),
            count(Blow::Join),
            count(Blow::KillTarget),
            count(Blow::FreezeTarget),
            last.summary().records()
        );
        report("storm", &target, records, &what);
    }
}

fn strike(blow: Blow, crowd: &mut Crowd, target: &KafkaCluster, data: &Data) {
    match blow {
        Blow::Join => {}
        Blow::Kill => {
            if let Some(running) = Crowd::take_any(&mut crowd.awake) {
                data.heed(&running.kill());
            }
        }
        Blow::Sleep => {
            if let Some(running) = Crowd::take_any(&mut crowd.awake) {
                running.signal(Signal::Stop);
                crowd.asleep.push(running);
            }
        }
        Blow::Wake => crowd.wake_all(),
        Blow::KillTarget => {
            target.kill();
            pause(by_magnitude(Duration::from_secs(1)));
            target.start_again();
        }
        Blow::FreezeTarget => {
            target.freeze();
            // What was sent lies in sockets, and its sender may be dead when it is read.
            if fastrand::bool() {
                strike(Blow::Kill, crowd, target, data);
            }
            pause(by_magnitude(Duration::from_secs(2)));
            target.thaw();
        }
    }
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn new_records_come_once_to_4_through_a_storm() {
    storm(Version::V4, Age::New);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn new_records_come_once_to_3_through_a_storm() {
    storm(Version::V3, Age::New);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn old_records_come_once_to_4_through_a_storm() {
    storm(Version::V4, Age::Old);
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn old_records_come_once_to_3_through_a_storm() {
    storm(Version::V3, Age::Old);
}
