#![allow(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a worker looks for the next fork before it sleeps: longer than what lies between two forks of a step,
/// and too short to be seen when nothing runs.
const PATIENCE: Duration = Duration::from_micros(80);
/// Looks between two readings of the clock.
const LOOKS: usize = 64;

/// Set in [`Shared::state`] while workers may join the fork.
const OPEN: u64 = 1 << 16;
/// What [`Shared::state`] grows by with every fork; below it are [`OPEN`] and the number of workers in the fork.
const FORK: u64 = 1 << 17;
const JOINED: u64 = OPEN - 1;

/// Workers that join a caller's fork.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Number of the fork, whether it is open, and how many workers are in it.
    state: AtomicU64,
    /// The fork's closure and counter: valid for a worker that is counted in `state`.
    fork: AtomicPtr<Fork<'static>>,
    /// A caller has a fork.
    busy: AtomicBool,
    /// Workers asleep or about to be.
    sleepers: AtomicUsize,
    stop: AtomicBool,
}

struct Fork<'a> {
    next: AtomicUsize,
    jobs: usize,
    job: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Fork<'_> {
    /// Runs jobs until none is left.
    fn work(&self) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let job = self.next.fetch_add(1, Ordering::Relaxed);
                if job >= self.jobs {
                    return;
                }
                (self.job)(job);
            }
        }));
        if let Err(panic) = result {
            self.next.store(self.jobs, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(panic);
        }
    }
}

impl Pool {
    pub(super) fn new(workers: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (0..workers)
            .map(|index| {
                let shared = Arc::clone(&shared);
                let builder = thread::Builder::new().name(format!("qwen3-cpu-{index}"));
                builder.spawn(move || shared.serve()).expect("the system starts a thread")
            })
            .collect();
        Self { shared, workers }
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Runs the jobs with the workers; false, and nothing is run, when there are none or they have another fork.
    pub(super) fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) -> bool {
        let shared = &*self.shared;
        if self.workers.is_empty() || shared.busy.swap(true, Ordering::Acquire) {
            return false;
        }
        let fork = Fork { next: AtomicUsize::new(0), jobs, job, panic: Mutex::new(None) };
        // SAFETY of what workers do with it: a worker reads the pointer only after it has counted itself in an open
        // state, and is counted until it has left `work`. This function closes the state and waits for the count to
        // be zero before it returns, and nothing in between unwinds: `work` catches what jobs panic with.
        shared.fork.store((&raw const fork).cast::<Fork<'static>>().cast_mut(), Ordering::Relaxed);
        // Nobody is in the last fork, so that only this caller changes the state until it is open.
        let number = shared.state.load(Ordering::Relaxed) & !(FORK - 1);
        shared.state.store(number.wrapping_add(FORK) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            self.workers.iter().take(jobs - 1).for_each(|worker| worker.thread().unpark());
        }
        fork.work();
        shared.state.fetch_and(!OPEN, Ordering::Relaxed);
        let mut looks = 0;
        while shared.state.load(Ordering::Acquire) & JOINED != 0 {
            // A worker may have lost its core to another program.
            if looks < 20_000 {
                std::hint::spin_loop()
            } else {
                thread::yield_now()
            }
            looks += 1;
        }
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = fork.panic.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            resume_unwind(panic);
        }
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            worker.join().expect("a worker does not panic");
        }
    }
}

impl Shared {
    /// A worker's life.
    fn serve(&self) {
        let mut done = 0;
        while let Some(number) = self.next_fork(done) {
            // SAFETY: counted in an open state, and so before the caller returns: see `Pool::run`.
            unsafe { (*self.fork.load(Ordering::Relaxed)).work() };
            self.state.fetch_sub(1, Ordering::Release);
            done = number;
        }
    }

    /// Joins the next open fork that is not `done`, and gives its number; `None` at the end.
    fn next_fork(&self, done: u64) -> Option<u64> {
        let mut asleep = false;
        let since = Instant::now();
        let mut looks = 0;
        let joined = loop {
            if self.stop.load(Ordering::SeqCst) {
                break None;
            }
            let state = self.state.load(Ordering::SeqCst);
            let number = state & !(FORK - 1);
            if state & OPEN != 0 && number != done {
                let joined =
                    self.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
                if joined.is_ok() {
                    break Some(number);
                }
                continue;
            }
            looks += 1;
            if looks % LOOKS != 0 || since.elapsed() < PATIENCE {
                std::hint::spin_loop();
            } else if asleep {
                thread::park();
                // Woken by mistake, it looks once and sleeps again.
                looks = LOOKS - 1;
            } else {
                // It looks once more: a fork opened before this was said wakes nobody.
                asleep = true;
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                looks = LOOKS - 1;
            }
        };
        if asleep {
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        joined
    }
}
