//! Rate and memory stay within what was asked for.

use std::time::{Duration, Instant};

use kferry::protocol::ApiKey;
use kferry::sandbox::core::faults::{Effect, Fault};

use crate::kafka::{KafkaCluster, Produce, Signal, Version, eventually, happens, shared};
use crate::pair::Pair;
use crate::sandboxes::{BATCH, Sandboxes};

/// As seen on the target: over any ten seconds within 5 %, and a little less where this machine is held up.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn the_rate_is_kept() {
    const RATE: f64 = 2e6;
    const RECORDS: i64 = 30_000;
    let mut pair = Pair::new("rate");
    pair.create(3, &[]);
    pair.judge.produce(
        pair.source,
        &pair.topic,
        &Produce {
            count: 30_000,
            size: 1000,
            partitions: 3,
            ..Produce::PLAIN
        },
    );

    let running = pair.copy().arg("--max-rate", "2MB").start();
    let began = now();
    let mut seen = Vec::new();
    let is_over = happens(Duration::from_secs(60), || {
        let before = began.elapsed();
        let records = pair.records_on_target();
        let after = began.elapsed();
        // An answer that took longer says too little about when it was so.
        if after - before < Duration::from_millis(200) {
            seen.push((after, records));
        }
        records == RECORDS
    });
    assert!(is_over, "{seen:?}");

    let summary = running.wait().summary();
    pair.assert_copied();
    let record_bytes = summary.number("/bytes") as f64 / RECORDS as f64;
    assert!(record_bytes > 1000.0, "{summary:?}");
    let under_way: Vec<_> = seen
        .iter()
        .filter(|(_, records)| (1..RECORDS).contains(records))
        .collect();
    let mut windows = 0;
    for (from, first) in &under_way {
        let Some((to, last)) = under_way.iter().find(|(to, _)| *to >= *from + Duration::from_secs(10)) else {
            break;
        };
        let rate = (last - first) as f64 * record_bytes / (*to - *from).as_secs_f64();
        assert!(
            (0.92 * RATE..1.05 * RATE).contains(&rate),
            "{rate} from {from:?} on: {seen:?}"
        );
        windows += 1;
    }
    assert!(windows > 20, "{seen:?}");
}

/// What is written to small partitions meanwhile does not wait until all of the huge one has arrived.
#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_huge_partition_starves_no_other() {
    const HUGE: i64 = 40_000;
    let mut pair = Pair::new("huge");
    pair.create(4, &[]);
    let records = Produce {
        count: HUGE as usize,
        size: 1000,
        ..Produce::PLAIN
    };
    pair.judge.produce(pair.source, &pair.topic, &records);
    let running = pair.copy().flag("--follow").arg("--max-rate", "4MB").start();
    eventually("the huge one is on its way", || pair.records_on_target() > 0);

    let few = Produce {
        count: 40,
        partitions: 4,
        ..Produce::PLAIN
    };
    pair.judge.produce(pair.source, &pair.topic, &few);

    let mut huge = 0;
    eventually("the small ones arrive", || {
        let arrived = pair.judge.offsets(pair.target, &pair.topic);
        huge = arrived[0].1;
        arrived[1..].iter().all(|(_, end)| *end == 10)
    });
    assert!(huge < HUGE / 2, "{huge} of the huge one had to arrive before");
    eventually("everything arrives", || pair.records_on_target() == HUGE + 40);
    running.signal(Signal::Terminate);
    running.wait();
    pair.assert_copied();
}

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn a_slow_target_does_not_fill_the_memory() {
    let source = shared(Version::V4);
    let target = KafkaCluster::start(Version::V3, &[]);
    let mut pair = Pair::new("memory");
    pair.create(8, &[]);
    let records = Produce {
        count: 150_000,
        size: 1000,
        partitions: 8,
        batch_bytes: 128 << 10,
        ..Produce::PLAIN
    };
    pair.judge.produce(source, &pair.topic, &records);
    let running = crate::kferry::Copy::between(source, &target)
        .arg("--topics", &pair.topic)
        .arg("--memory", "32MiB")
        .start();
    let judge = &mut pair.judge;
    eventually("the copy begins", || {
        judge.topics(&target).iter().any(|(name, _)| *name == pair.topic)
    });
    target.freeze();
    happens(Duration::from_secs(5), || running.memory() > 92 << 20); // Time enough to fetch everything.
    target.thaw();

    let outcome = running.wait();

    assert_eq!(outcome.summary().records(), 150_000);
    assert!(
        outcome.peak_memory < (32 + 60) << 20,
        "{} MB",
        outcome.peak_memory >> 20
    );
}

/// In the least memory that there is a use for: many partitions at once, and a target that answers late.
#[test]
fn many_partitions_stay_within_the_memory() {
    let sandboxes = Sandboxes::new(2000);
    sandboxes.write(0, 3, 2000);
    sandboxes.arm_target(Fault::new(ApiKey::Produce, Effect::Delay { ms: 100 }).times(20));

    let outcome = sandboxes.copy().arg("--memory", "32MiB").run();

    outcome.summary();
    assert_eq!(sandboxes.assert_copied(), 2000 * 30);
    assert!(
        outcome.peak_memory < (32 + 60) << 20,
        "{} MB",
        outcome.peak_memory >> 20
    );
}

/// What one broker asks for is not asked of the others (KIP-219).
#[test]
fn a_broker_that_throttles_holds_no_other_up() {
    const PARTITIONS: i32 = 8;
    let sandboxes = Sandboxes::with_batches(PARTITIONS, 40);
    sandboxes.arm_source(
        Fault::new(ApiKey::Fetch, Effect::Throttle { ms: 4000 })
            .on_broker(1)
            .times(2),
    );

    let began = now();
    let running = sandboxes.copy().start();
    let leaders: Vec<i32> = (0..PARTITIONS).map(|index| sandboxes.source_leader(index)).collect();
    let led = |broker| {
        (0..PARTITIONS)
            .filter(|index| leaders[*index as usize] == broker)
            .collect::<Vec<_>>()
    };
    let (throttled, other) = (led(1), led(2));
    assert!(!throttled.is_empty() && !other.is_empty());
    let complete = |partitions: &[i32]| {
        let arrived = |index: &i32| sandboxes.partition_on_target(*index);
        partitions.iter().all(|index| arrived(index) == 40 * BATCH)
    };
    eventually("the other broker's partitions arrive", || complete(&other));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());

    running.wait().summary();
    assert!(complete(&throttled));
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    sandboxes.assert_copied();
}

#[expect(clippy::disallowed_methods, reason = "measures a process")]
fn now() -> Instant {
    Instant::now()
}
