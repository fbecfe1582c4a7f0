//! Tells when a file is saved: inotify(7).

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use workbook::host::{Named as _, Refusal};

/// An editor that saves makes several changes, one right after the other.
const SETTLED: u16 = 50; // ms

/// What happens in some folders.
pub struct Changes {
    folders: Vec<PathBuf>,
    events: Inotify,
}

impl Changes {
    /// In these folders and those in them, but not in what is built or hidden.
    pub fn of(folders: Vec<PathBuf>) -> Result<Self, Refusal> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let events = events.named("inotify_init1(2)")?;
        Ok(Self { folders, events })
    }

    /// From here on changes are kept for [`Changes::wait`], also those in new folders. A second
    /// watch of the same folder is none.
    pub fn begin(&self) -> Result<(), Refusal> {
        self.folders.iter().try_for_each(|folder| self.add(folder))
    }

    /// Waits for a change, and until there are no more of them.
    pub fn wait(&self) -> Result<(), Refusal> {
        self.poll(PollTimeout::NONE)?;
        while self.poll(PollTimeout::from(SETTLED))? {}
        Ok(())
    }

    /// Takes what there is. `false` if nothing comes within this time.
    fn poll(&self, time: PollTimeout) -> Result<bool, Refusal> {
        let mut fds = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, time).named("poll(2)")? == 0 {
            return Ok(false);
        }
        self.events.read_events().named("read(2) of inotify").map(|_| true)
    }

    fn add(&self, folder: &Path) -> Result<(), Refusal> {
        let saved = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        let flags = saved | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        let added = self.events.add_watch(folder, flags);
        added.named(format!("inotify_add_watch({folder:?})"))?;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_source = name != "target" && !name.as_encoded_bytes().starts_with(b".");
            if is_source && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }
}
