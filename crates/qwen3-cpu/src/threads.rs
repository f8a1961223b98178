//! Forks of a step: jobs shared out to a few threads that wait for the next fork without sleeping, for a while.

mod pool;

use std::num::NonZero;
use std::sync::Mutex;

use pool::Pool;

/// Threads that share the jobs of a fork; the caller is one of them.
///
/// A fork from inside a job, or while another thread's fork is running, is done by its caller alone: nothing waits
/// for a lock, so it may be called from any thread, a worker of Rayon included.
#[derive(Debug)]
pub struct Threads {
    pool: Pool,
}

impl Threads {
    /// `count` threads, the caller included.
    ///
    /// # Panics
    /// When `count` is zero or the system starts no more threads.
    pub fn new(count: usize) -> Self {
        assert!(count > 0, "no thread at all");
        Self { pool: Pool::new(count - 1) }
    }

    /// As many as this process may run at a time.
    pub fn all() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// How many there are, the caller included.
    pub fn count(&self) -> usize {
        self.pool.workers() + 1
    }

    /// Calls `job` with each of `0..jobs`, in this order as threads become free, and returns when all are done.
    ///
    /// # Panics
    /// With what the first job to panic panicked with, once no job is running; those not begun are left out.
    pub fn run(&self, jobs: usize, job: impl Fn(usize) + Sync) {
        if jobs <= 1 || !self.pool.run(jobs, &job) {
            (0..jobs).for_each(job);
        }
    }

    /// Calls `job` with each of `items` as [`run`](Self::run) does.
    ///
    /// # Panics
    /// As `run` does.
    pub fn for_each<T: Send>(&self, items: Vec<T>, job: impl Fn(T) + Sync) {
        if items.len() <= 1 || self.count() == 1 {
            return items.into_iter().for_each(job);
        }
        let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(items.len(), |index| {
            let item = items[index].lock().expect("no job runs under the lock").take();
            job(item.expect("every job is run once"));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn sum(threads: &Threads, jobs: usize) -> usize {
        let sum = AtomicUsize::new(0);
        threads.run(jobs, |job| {
            sum.fetch_add(job + 1, Ordering::Relaxed);
        });
        sum.into_inner()
    }

    #[test]
    fn every_job_runs_once_in_many_forks() {
        for count in [1, 2, 5] {
            let threads = Threads::new(count);
            for jobs in (0..2000).map(|fork| fork % 37) {
                assert_eq!(sum(&threads, jobs), jobs * (jobs + 1) / 2);
            }
        }
    }

    #[test]
    fn workers_that_fell_asleep_come_back() {
        let threads = Threads::new(3);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            let both = std::sync::Barrier::new(2);
            // Jobs that wait for each other: they end only when a second thread comes.
            threads.run(2, |_| {
                both.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_threads_go_on() {
        let threads = Threads::new(3);
        for panicking in [0, 7, 40] {
            let ran = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                threads.run(41, |job| {
                    assert!(job != panicking, "job {job}");
                    ran.fetch_add(1, Ordering::Relaxed);
                });
            }));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("job {panicking}"));
            assert!(ran.into_inner() >= panicking.min(1));
            assert_eq!(sum(&threads, 100), 5050);
        }
    }

    #[test]
    fn forks_inside_jobs_and_from_several_threads_are_done() {
        let threads = Arc::new(Threads::new(3));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let threads = Arc::clone(&threads);
                std::thread::spawn(move || {
                    for _ in 0..200 {
                        let total = AtomicUsize::new(0);
                        threads.run(5, |_| {
                            total.fetch_add(sum(&threads, 10), Ordering::Relaxed);
                        });
                        assert_eq!(total.into_inner(), 5 * 55);
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    }

    #[test]
    fn for_each_gives_every_item_away() {
        let threads = Threads::new(2);
        let mut numbers = vec![0; 100];
        threads.for_each(numbers.chunks_mut(7).enumerate().collect(), |(chunk, part)| part.fill(chunk));
        assert!(numbers.iter().enumerate().all(|(index, chunk)| *chunk == index / 7));
    }
}
