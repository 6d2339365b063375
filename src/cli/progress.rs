//! Progress on a terminal, for what takes longer than a second; silence in a pipe.

use crate::engine::Progress;
use crate::env::Env;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::{Condvar, Mutex};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

/// Shorter steps show nothing.
const SHOW_AFTER: Duration = Duration::from_secs(1);
const REDRAW_EVERY: Duration = Duration::from_millis(120);

/// Shows one step at a time on standard error.
pub(super) struct TerminalProgress {
    env: Env,
    is_shown: bool,
    step: Mutex<Option<Arc<Step>>>,
}

/// One step: a bar that stays hidden until its time has come.
struct Step {
    bar: ProgressBar,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl TerminalProgress {
    /// Progress for this process; shown only where standard error is a terminal.
    pub(super) fn new(env: &Env) -> Self {
        let is_shown = std::io::stderr().is_terminal();
        Self { env: env.clone(), is_shown, step: Mutex::new(None) }
    }
}

impl Progress for TerminalProgress {
    fn begin(&self, what: &str, total: Option<u64>) {
        self.end();
        if !self.is_shown {
            return;
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        bar.set_style(style(total.is_some()));
        bar.set_message(what.to_owned());
        let step = Arc::new(Step { bar, is_over: Mutex::new(false), over: Condvar::new() });
        *self.step.lock() = Some(Arc::clone(&step));
        // Without the thread the step would merely stay invisible.
        drop(self.env.spawn("progress", move || step.show_if_slow()));
    }

    fn advance(&self, n: u64) {
        if let Some(step) = &*self.step.lock() {
            step.bar.inc(n);
        }
    }

    fn end(&self) {
        if let Some(step) = self.step.lock().take() {
            *step.is_over.lock() = true;
            step.over.notify_all();
            step.bar.finish_and_clear();
        }
    }
}

impl Drop for TerminalProgress {
    fn drop(&mut self) {
        self.end();
    }
}

impl Step {
    fn show_if_slow(&self) {
        let mut is_over = self.is_over.lock();
        if !*is_over {
            self.over.wait_for(&mut is_over, SHOW_AFTER);
        }
        // Still under the lock, so that a bar is never shown after its end cleared it.
        if !*is_over {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(REDRAW_EVERY);
        }
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = match has_total {
        true => "{msg} [{bar:30}] {pos}/{len} ({eta})",
        false => "{spinner} {msg} {pos} ({elapsed})",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Shows nothing.
#[derive(Debug)]
pub(super) struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
}
