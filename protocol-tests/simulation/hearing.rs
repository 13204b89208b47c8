//! What the replicator announces is held against what is so, and acted on as an operator would.

use kferry::replication::partition::OnChange;

use crate::announcements::{self, Line};
use crate::deeds::Deed;
use crate::faults::FaultKind;
use crate::judge::{Invariant, Violation, violation};
use crate::simulation::Simulation;
use crate::world::locked;

/// Until an operator has noticed that a partition has stopped, and stops the rest.
const OPERATOR_MS: i64 = 30_000;

impl Simulation {
    /// What the replicator has announced.
    pub(crate) fn hear(&mut self) -> Result<(), Violation> {
        for line in announcements::take_lines() {
            if line.text.starts_with("partition stopped: ") {
                self.stopped(&line)?;
                continue;
            }
            let Some(judge) = self.judge.partition(&line.topic, line.partition) else {
                continue;
            };
            if line.text.starts_with("the source has lost") {
                if !judge.was_cut_back() {
                    return violation(Invariant::Loud, format!("it has lost nothing: {}", line.text));
                }
                judge.announce_loss(line.lost());
            }
            let Some(range) = line.range() else { continue };
            if line.text.contains("may be on the target twice") {
                judge.announce_repetition(range.0, range.1);
            } else if line.text.contains("were gone before they were copied") {
                judge.announce_gap(range.0, range.1);
            }
        }
        Ok(())
    }

    /// A partition has stopped, which is for an operator to see to: by starting again, where that helps.
    fn stopped(&mut self, line: &Line) -> Result<(), Violation> {
        let reason = line.text.as_str();
        if reason.contains("are not there, and later ones are") {
            let judge = self.judge.partition(&line.topic, line.partition);
            let hole = judge.and_then(|judge| judge.hole());
            if hole.is_none() || hole != line.range() {
                return violation(Invariant::Loud, format!("{reason}; in truth {hole:?}"));
            }
            self.has_said_so = true;
        }
        if reason.contains("where they part nobody can tell") {
            let judge = self.judge.partition(&line.topic, line.partition);
            self.has_said_so = judge.is_some_and(|judge| judge.was_cut_back());
            return match self.has_said_so {
                true => Ok(()),
                false => violation(Invariant::Loud, format!("without a cause: {reason}")),
            };
        }
        if reason.contains("the log was truncated")
            && let Some(judge) = self.judge.partition(&line.topic, line.partition)
            && judge.was_cut_back()
        {
            judge.announce_loss(line.lost());
            self.options.on_truncation = OnChange::Continue;
            let at = locked(&self.network).now() + OPERATOR_MS;
            self.plan.add(at, Deed::ShutDown);
            return Ok(());
        }
        let may_pass = [
            "could not be read for",
            "took nothing for",
            "run again",
            "another kferry has taken over",
            "are not there, and later ones are",
        ];
        // Where retention and a cut have taken all that was copied, nobody can tell whether it was.
        let is_hidden = reason.contains("are gone from the source's log")
            && self
                .judge
                .partition(&line.topic, line.partition)
                .is_some_and(|judge| judge.was_cut_back());
        if is_hidden {
            self.has_said_so = true;
        }
        let is_damaged = reason.contains("batch is damaged") && self.options.rate(FaultKind::Damaged) > 0.0;
        if !is_damaged && !is_hidden && !may_pass.iter().any(|text| reason.contains(text)) {
            return violation(Invariant::Loud, format!("without a cause: {reason}"));
        }
        let at = locked(&self.network).now() + OPERATOR_MS;
        self.plan.add(at, Deed::ShutDown);
        Ok(())
    }
}
