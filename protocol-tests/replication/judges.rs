//! The judges judged: nothing else here would notice if both saw too little.

use crate::kafka::{self, Isolation, Judge, Produce, Timestamps, Version, assert_same, shared};

#[test]
#[ignore = "needs Apache Kafka (Java 17 and Maven)"]
fn both_judges_see_the_same_and_all_of_it() {
    let cluster = shared(Version::V4);
    let mut judge = Judge::take();
    let records = Produce {
        partitions: 3,
        ..Produce::VARIED
    };
    judge.create_topic(cluster, "judges", 3, &[]);
    judge.produce(cluster, "judges", &records);
    judge.begin(cluster, "judges", "judges", &records);
    judge.abort(cluster, "judges");
    judge.interleave(cluster, "judges", &records, 3, 30);

    let [committed, all] = [Isolation::ReadCommitted, Isolation::ReadUncommitted].map(|isolation| {
        let java = judge.dump(cluster, "judges", isolation);
        let librdkafka = kafka::librdkafka(cluster, "judges", isolation);
        assert_same(&java, &librdkafka, Timestamps::Equal);
        java
    });

    assert!(committed.len() >= records.count, "{}", committed.len());
    assert!(
        all.len() >= committed.len() + records.count,
        "the aborted ones are there for those who look"
    );
    for shape in ["null", "x"] {
        assert!(all.0.iter().any(|record| record.key == shape) && all.0.iter().any(|record| record.value == shape));
    }
    assert!(
        all.0.iter().any(|record| record.headers.contains("=null")),
        "headers without a value"
    );
}
