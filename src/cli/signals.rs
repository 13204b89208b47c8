//! SIGINT and SIGTERM ask for a clean stop, and decide the exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// 128 + the signal's number, as shells report it.
const EXIT_SIGINT: u8 = 130;
const EXIT_SIGTERM: u8 = 143;

/// A stop that a signal asked for.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    asked: watch::Receiver<bool>,
    exit_code: Arc<AtomicU8>,
}

impl Stop {
    /// Listens from here on. A second signal ends the process at once.
    pub(super) fn listen() -> std::io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, asked) = watch::channel(false);
        let exit_code = Arc::new(AtomicU8::new(0));
        let code = Arc::clone(&exit_code);
        tokio::spawn(async move {
            for count in 0.. {
                let asked_for = tokio::select! {
                    _ = interrupt.recv() => EXIT_SIGINT,
                    _ = terminate.recv() => EXIT_SIGTERM,
                };
                if count > 0 {
                    std::process::exit(i32::from(asked_for));
                }
                tracing::info!("stopping: what is on its way arrives first (a second signal stops at once)");
                code.store(asked_for, Ordering::Relaxed);
                sender.send_replace(true);
            }
        });
        Ok(Self { asked, exit_code })
    }

    pub(super) fn asked(&self) -> watch::Receiver<bool> {
        self.asked.clone()
    }

    /// The exit code of the signal, if one came.
    pub(super) fn exit_code(&self) -> Option<ExitCode> {
        Some(self.exit_code.load(Ordering::Relaxed))
            .filter(|code| *code != 0)
            .map(ExitCode::from)
    }
}
