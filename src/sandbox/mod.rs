//! A small Kafka in memory, for the demo and for tests.
//!
//! [`core`] is a whole cluster as a value, [`groups`] the consumer groups in it, and [`Sandbox`] puts both on TCP. It
//! demands of clients what real brokers demand, with the same error codes, so that a mistake is found here already; but
//! nothing is believed of it that the conformance cases in `protocol-tests/` have not confirmed on Apache Kafka.
//!
//! What it does not do:
//!
//! | not here | because |
//! |---|---|
//! | durability | everything is in memory, and gone when it ends |
//! | TLS, SASL, ACLs, quotas, throttling | clients of tests are trusted, and nothing is gained by slowing them down |
//! | followers, ISR, unclean elections | a log is its own only replica: every append is committed at once; moving a leader and truncating a log show clients the same |
//! | retention, compaction and expiry by themselves | tests decide when; [`Cluster`](core::Cluster) has a method for each |
//! | segments | compaction reaches up to the last stable offset, retention goes batch by batch |
//! | tiered storage, fetching from followers | there is neither |
//! | `__consumer_offsets`, `__transaction_state` | groups and transactions are not kept in logs |
//! | transactions of version 2 (EndTxn 5, TxnOffsetCommit 5) | what bumps the epoch by itself is not asked for by a cluster that does not offer `transaction.version` 2. Produce 12 does add its partitions, as there |
//! | expiry of transactional ids and of committed offsets | it takes a week |
//! | the consumer protocol of KIP-848, share and streams groups | clients fall back on the classic protocol where it is not offered |
//! | Produce 0–2, Fetch 0–3, OffsetCommit 10, OffsetFetch 10 | older than Kafka 4 takes; or by topic id, which is not stable there |
//! | reassignments, log directories, telemetry, SCRAM, Raft | no client of ours asks |
//! | formats before magic 2 | refused on produce, as Kafka 4 does; nothing could have stored them |
//! | null records in a produce request | real brokers never answer; here the connection closes |

mod connection;
pub mod core;
pub mod groups;
mod server;

pub use server::{Sandbox, SandboxOptions};
