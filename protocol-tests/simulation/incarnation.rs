//! One incarnation of the replicator: the production code in a runtime of its own, whose clock only we wind.
//!
//! A runtime that is dropped is a process that was killed: none of its tasks ever goes on. One that is not run for a while
//! is a process that was stopped: it does not know of the time that has passed until it looks at its clock.

use std::sync::{Arc, Mutex};

use kferry::cluster::{ClusterConfig, Side};
use kferry::service::copy::{CopyError, CopyRequest, CopySummary, copy};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinHandle};

use crate::network::End;
use crate::seed::Random;
use crate::world::{Clock, FIRST_PORT, Inhabitant, SharedNetwork, SimulatedWorld, locked};

/// How an incarnation ended by itself.
pub(crate) type Ended = Result<Result<CopySummary, CopyError>, JoinError>;

/// See the module.
pub(crate) struct Incarnation {
    runtime: Runtime,
    copying: JoinHandle<Result<CopySummary, CopyError>>,
    inhabitant: Arc<Inhabitant>,
    shutdown: watch::Sender<bool>,
    pub(crate) stopped_until: i64,
}

impl Incarnation {
    /// Starts a copy. What `request` says of the clusters is replaced.
    pub(crate) fn start(
        number: usize,
        network: &SharedNetwork,
        mut random: Random,
        (source_brokers, target_brokers): (i32, i32),
        request: impl FnOnce(ClusterConfig, ClusterConfig, u64) -> CopyRequest,
    ) -> Self {
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        let clock = runtime.block_on(async { Clock::start(locked(network).now()) });
        let instance = random.number();
        let inhabitant = Arc::new(Inhabitant {
            incarnation: number,
            network: Arc::clone(network),
            clock,
            wrote: Notify::new(),
            random: Mutex::new(random),
        });
        let config = |side, alias: &str, end, brokers: i32| {
            let port = |broker: i32| i32::from(FIRST_PORT) + broker;
            let bootstrap = (0..brokers).map(|broker| format!("{alias}:{}", port(broker)));
            let mut config = ClusterConfig::new(side, alias, bootstrap.collect());
            config.world = Arc::new(SimulatedWorld {
                inhabitant: Arc::clone(&inhabitant),
                end,
            });
            config
        };
        let request = request(
            config(Side::Source, "source", End::Source, source_brokers),
            config(Side::Target, "target", End::Target, target_brokers),
            instance,
        );
        let (shutdown, asked) = watch::channel(false);
        let copying = runtime.spawn(async move { copy(request, &Arc::default(), asked).await });
        Self {
            runtime,
            copying,
            inhabitant,
            shutdown,
            stopped_until: 0,
        }
    }

    /// Lets it go on until its clock shows `time`, or until something that it has written arrives somewhere before.
    /// Returns how it has ended, if it has.
    pub(crate) fn run_until(&mut self, time: i64) -> Option<Ended> {
        let Inhabitant {
            network, clock, wrote, ..
        } = &*self.inhabitant;
        let copying = &mut self.copying;
        self.runtime.block_on(async {
            loop {
                let until = locked(network).next_arrival().map_or(time, |arrival| arrival.min(time));
                if clock.now() >= until {
                    return None;
                }
                tokio::select! {
                    biased;
                    ended = &mut *copying => return Some(ended),
                    () = wrote.notified() => {}
                    () = tokio::time::sleep_until(clock.at(until)) => {}
                }
            }
        })
    }

    /// Lets it see that time has passed while it was stopped.
    pub(crate) fn wake_at(&mut self, time: i64) {
        let clock = self.inhabitant.clock;
        self.runtime.block_on(async {
            let passed = u64::try_from(time - clock.now()).unwrap_or(0);
            tokio::time::advance(std::time::Duration::from_millis(passed)).await;
        });
    }

    pub(crate) fn shut_down(&self) {
        self.shutdown.send_replace(true);
    }

    pub(crate) fn is_stopped(&self, now: i64) -> bool {
        self.stopped_until > now
    }
}
