//! Is the machine otherwise idle? What other processes take is seen in the processors' own account.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Other processes may take this share of one processor.
const ALLOWED: f64 = 0.1;
/// How long the machine is watched at a time.
const WATCHED: Duration = Duration::from_millis(500);
/// Ticks in a second of /proc/stat, on every Linux.
const TICKS: f64 = 100.0;

/// The processors' time since the machine started, all together, waiting not counted, in seconds; also what another
/// guest of the same host took from them. `None` where the system does not tell.
pub fn computed() -> Option<f64> {
    seconds(&fs::read_to_string("/proc/stat").ok()?)
}

fn seconds(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are in user.
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq + steal) / TICKS)
}

/// Waits until other processes let the machine go, for `most`; calls `waiting` once with the processors that they use.
///
/// Returns whether the machine was idle in the end; `true` where the system does not tell.
pub fn wait(most: Duration, mut waiting: impl FnMut(f64)) -> bool {
    let start = Instant::now();
    let mut said = false;
    loop {
        let watched = Watch::start();
        sleep(WATCHED);
        let used = watched.others(0.0).unwrap_or(0.0);
        if used <= ALLOWED {
            return true;
        }
        if !said {
            waiting(used);
            said = true;
        }
        if start.elapsed() >= most {
            return false;
        }
    }
}

/// Watches what other processes take beside one that is measured.
pub struct Watch {
    begun: Instant,
    computed: Option<f64>,
}

impl Watch {
    /// From now on.
    pub fn start() -> Self {
        Self { begun: Instant::now(), computed: computed() }
    }

    /// How many processors others used since, when ours computed for `own` seconds.
    fn others(&self, own: f64) -> Option<f64> {
        let all = computed()? - self.computed?;
        Some((all - own).max(0.0) / self.begun.elapsed().as_secs_f64())
    }

    /// Did others use more than a little, when ours computed for `own` seconds? `false` where the system does not tell.
    pub fn disturbed(&self, own: f64) -> bool {
        self.others(own).is_some_and(|used| used > ALLOWED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_no_computing() {
        let stat = "cpu  100 20 30 4000 500 6 7 8 50 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(seconds(stat), Some(1.71));
        assert_eq!(seconds("cpu  1 2\n"), None);
        assert_eq!(seconds(""), None);
    }

    #[test]
    fn what_others_take_disturbs() {
        let begun = Instant::now() - Duration::from_secs(10);
        let Some(now) = computed() else { return };
        let watch = Watch { begun, computed: Some(now - 20.0) };
        assert!(watch.disturbed(0.0) && watch.disturbed(10.0));
        assert!(!watch.disturbed(1e6));
        assert!(!Watch { begun, computed: None }.disturbed(0.0));
    }
}
