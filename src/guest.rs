//! What a guest is started with: the kernel of a distribution, and a first file system that holds
//! this very program. The kernel unpacks it into memory and starts its `/init` as PID 1. And how
//! the two talk: the guest [`tell`]s over its serial line, which is its standard output, and the
//! lesson [`hear`]s what the machine prints.

use std::env;
use std::ffi::{CStr, c_int, c_void};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{S_IFDIR, S_IFREG, dl_iterate_phdr, dl_phdr_info};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;

use crate::host::{Named as _, Refusal};
use crate::transcript::Transcript;

/// A kernel to boot: the one that `GUEST_KERNEL` names, or the newest that we may read where
/// distributions keep them.
pub fn kernel() -> Result<PathBuf, Refusal> {
    if cfg!(not(target_arch = "x86_64")) {
        // The guest is an x86-64 machine, and its first program is this one.
        return Err(Errno::ENOEXEC).named("execve(\"/init\") in the guest");
    }
    if let Some(file) = env::var_os("GUEST_KERNEL").map(PathBuf::from) {
        File::open(&file).named(format!("GUEST_KERNEL: open({file:?})"))?;
        return Ok(file);
    }
    let is_kernel = |file: &PathBuf| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    };
    let boot = entries("/boot").filter(is_kernel);
    let modules = entries("/usr/lib/modules").map(|folder| folder.join("vmlinuz"));
    let (mut newest, mut error) = (None, Errno::ENOENT);
    for file in boot.chain(modules) {
        match File::open(&file).and_then(|kernel| kernel.metadata()?.modified()) {
            Ok(time) => newest = newest.max(Some((time, file))),
            Err(_) if !file.exists() => {}
            Err(_) => error = Errno::EACCES, // 0600 on Ubuntu
        }
    }
    newest.map(|(_, file)| file).ok_or(error).named("open(\"/boot/vmlinuz-*\")")
}

/// In the guest: tells the host what was called and what came of it. A guest that cannot speak has
/// no other way to say so.
pub fn tell(call: impl Display, result: impl Display) {
    let _ = writeln!(stdout(), "{call}\t{result}");
    let _ = tcdrain(stdout()); // it has left the machine, whatever we do next
}

/// On the host: prints each observation among what the guest has said and gives their results.
pub fn hear<const N: usize>(t: &mut Transcript, said: &str) -> Result<[String; N], Refusal> {
    // The kernel has the same serial line, and may say something too.
    let observations = said.lines().filter_map(|line| line.split_once('\t'));
    let results: Vec<_> = observations
        .map(|(call, result)| {
            t.inside("guest", call, result);
            result.to_string()
        })
        .collect();
    results.try_into().map_err(|_| Refusal::of_tool("the guest", "not the whole story", said))
}

/// In the guest: says why it cannot go on, and ends it. PID 1 must not exit: its kernel would panic.
pub fn give_up(why: &Refusal) -> ! {
    tell(why, "");
    loop {
        let _ = reboot(RebootMode::RB_AUTOBOOT); // does not return to root, who we are there
    }
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

// ANCHOR: initramfs
/// The first file system of a guest, in memory: this program as `/init`, and what it needs to start.
/// A kernel takes such a file system as a cpio archive.
pub fn initramfs() -> Result<File, Refusal> {
    let mut archive = Archive::default();
    archive.add("/proc", S_IFDIR | 0o555, &[]); // to mount proc on
    archive.add_file("/init", "/proc/self/exe".as_ref())?;
    for library in libraries() {
        archive.add_file(&library, library.as_ref())?;
    }
    archive.in_memory()
}
// ANCHOR_END: initramfs

/// The dynamic loader and the libraries that this program runs with, under the names that it was
/// linked to: dl_iterate_phdr(3). None if it is static.
pub fn libraries() -> Vec<String> {
    unsafe extern "C" fn add(object: *mut dl_phdr_info, _size: usize, list: *mut c_void) -> c_int {
        // SAFETY: the loader hands over an object that lives as long as this call.
        let name = unsafe { (*object).dlpi_name };
        // SAFETY: it has a name, a C string; the program's own is empty.
        let name = unsafe { CStr::from_ptr(name) };
        // SAFETY: what we gave to dl_iterate_phdr(3), which nothing else uses meanwhile.
        let list = unsafe { &mut *list.cast::<Vec<String>>() };
        // The kernel's own library, the vDSO, has a name and no file.
        list.extend(name.to_str().ok().filter(|name| name.starts_with('/')).map(str::to_string));
        0
    }
    let mut list = Vec::<String>::new();
    // SAFETY: calls `add` for each object, with a list that outlives the call.
    unsafe { dl_iterate_phdr(Some(add), (&raw mut list).cast()) };
    list
}

/// The same files in a folder that shall become somebody's `/`, as in rootfs-demo, with the program
/// under this name.
pub fn root_at(folder: &Path, program: &str) -> Result<(), Refusal> {
    let libraries = libraries().into_iter().map(|file| (file.clone(), file));
    for (file, place) in libraries.chain([("/proc/self/exe".to_string(), program.to_string())]) {
        let copy = folder.join(place.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap_or(folder)).named(format!("mkdir({copy:?})"))?;
        fs::copy(&file, &copy).named(format!("open({file:?}), then write(2)"))?;
    }
    Ok(())
}

/// A cpio archive in the format "newc": cpio(5), and the kernel's documentation in
/// driver-api/early-userspace/buffer-format.
#[derive(Default)]
pub struct Archive(Vec<u8>);

impl Archive {
    /// Adds this file as a program of that name, and the folders that it is in: the kernel makes
    /// none that is not in the archive.
    pub fn add_file(&mut self, name: &str, file: &Path) -> Result<(), Refusal> {
        let content = fs::read(file).named(format!("open({file:?})"))?;
        let folders = Path::new(name).ancestors().skip(1).collect::<Vec<_>>();
        for folder in folders.into_iter().rev().filter_map(Path::to_str).filter(|f| *f != "/") {
            self.add(folder, S_IFDIR | 0o755, &[]);
        }
        self.add(name, S_IFREG | 0o755, &content);
        Ok(())
    }

    /// Adds a file or a folder of root's: inode(7) has the modes.
    pub fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let name = name.trim_start_matches('/');
        let (name_size, size) = (name.len() as u32 + 1, content.len() as u32);
        // Inode, mode, owner, group, links, time, size, four device numbers, name's size, checksum.
        let fields = [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.0.extend(b"070701");
        self.0.extend(fields.map(|field| format!("{field:08X}")).concat().bytes());
        self.0.extend(name.bytes().chain([0]));
        self.align();
        self.0.extend(content);
        self.align();
    }

    /// The archive as a file without a name. The program that we start next inherits it.
    pub fn in_memory(mut self) -> Result<File, Refusal> {
        self.add("TRAILER!!!", 0, &[]);
        let memory = memfd_create("initramfs", MFdFlags::empty()).named("memfd_create(2)")?;
        let mut memory = File::from(memory);
        memory.write_all(&self.0).named("write(2) to a memfd")?;
        Ok(memory)
    }

    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}
