//! One download of a model at a time.

use std::fs::{File, TryLockError, create_dir_all};
use std::path::Path;

use crate::{Event, HubError};

/// Held while a model is downloaded into a folder; the file stays.
pub struct Lock(#[allow(dead_code, reason = "closing it gives the lock back")] File);

impl Lock {
    /// Waits until nobody else downloads what is called `name` in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn take(folder: &Path, name: &str, tell: &mut dyn FnMut(Event<'_>)) -> Result<Self, HubError> {
        create_dir_all(folder).map_err(HubError::cache(folder, "written to"))?;
        let path = folder.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(HubError::cache(folder, "written to"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                tell(Event::Waiting);
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        }
        .map_err(HubError::cache(path, "locked"))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_second_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path(), "a--b", &mut |_| panic!("waits for nobody")).unwrap();
        let (said, hears) = channel();
        let path = folder.path().to_path_buf();
        let second = std::thread::spawn(move || {
            let second = Lock::take(&path, "a--b", &mut |_| said.send("waiting").unwrap()).map(drop);
            said.send("done").unwrap();
            second
        });
        assert_eq!(hears.recv().unwrap(), "waiting");
        assert!(hears.recv_timeout(Duration::from_millis(50)).is_err());
        Lock::take(folder.path(), "a--c", &mut |_| panic!("another model")).unwrap();
        drop(first);
        assert_eq!(hears.recv().unwrap(), "done");
        second.join().unwrap().unwrap();
    }
}
