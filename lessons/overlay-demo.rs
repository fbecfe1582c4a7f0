//! Written above, read through to below.
//!
//! mount(2) of overlay: Documentation/filesystems/overlayfs.rst in the kernel; mknod(2).

use std::fs::{self, File, create_dir, read_dir, remove_file};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{major, minor};
use nix::unistd::chdir;
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::transcript::{Transcript, result, value};
use workbook::{mounts, user};

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("overlay-demo.rs"),
    claims: &[
        ("ovl-1", "What is only read comes out of the lower layer: nothing is copied."),
        ("ovl-2", "The first write copies the whole file up; the lower one stays."),
        ("ovl-3", "A deleted file gets a device 0:0 above it, and is there below."),
        ("ovl-4", "A new file is in the upper layer alone."),
        ("ovl-5", "An upper layer serves the next overlay as a lower one: an image."),
    ],
    shell: true,
    controls: &[
        Control {
            name: "upper",
            what: "two lower layers and no upper one, and nobody can write",
            breaks: &["ovl-2", "ovl-3", "ovl-4", "ovl-5"],
        },
        Control {
            name: "overlay",
            what: "a bind mount of lower, and all that is written is in it",
            breaks: &["ovl-2", "ovl-3", "ovl-4", "ovl-5"],
        },
    ],
};

const NULL: Option<&str> = None; // where mount(2) takes a string
const SIZE: usize = 1 << 20;

fn main() -> ExitCode {
    LESSON.run(overlay_demo)
}

fn overlay_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?;
    let (_, mut from_inside) = child::forked("inside", t, inside)?;
    let [_unshare, _tmpfs, _overlay, read, copied] = from_inside.hear(t)?;
    let [_pwrite, letters, old_letters, _unlink, whiteout, _new] = from_inside.hear(t)?;
    let [merged, upper, lower, _umount, _overlay, next] = from_inside.hear(t)?;

    t.claim("ovl-1", read == "lower" && copied == "0");
    t.claim("ovl-2", letters == "u l" && old_letters == (SIZE - 1).to_string());
    let without_it = merged == "changed kept new" && lower == "changed deleted kept";
    t.claim("ovl-3", whiteout == "c--------- 0:0" && without_it);
    t.claim("ovl-4", upper == "changed deleted new" && without_it);
    t.claim("ovl-5", next == merged && without_it);
    t.by_hand("grep -w overlay /proc/filesystems", "nodev overlay");
    from_inside.leave(t)
}

// ANCHOR: inside
/// The whole life of the process inside.
fn inside(outside: &mut Outside) -> Result<(), Refusal> {
    outside.did("unshare(CLONE_NEWNS)", unshare(CloneFlags::CLONE_NEWNS))?;
    mounts::make_private().named(mounts::MAKE_PRIVATE)?; // as in mount-demo
    let tmpfs = mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), NULL);
    outside.did("mount(\"tmpfs\", \"/mnt\", \"tmpfs\", 0, NULL)", tmpfs)?;
    chdir("/mnt").named("chdir(\"/mnt\")")?;
    fill_the_lower_layer().named("write(2) to /mnt/lower")?;
    // The kernel prepares in work what it then moves to upper: both are in one file system.
    let layers = "lowerdir=lower,upperdir=upper,workdir=work";
    let layers = if outside.without("upper") { "lowerdir=upper:lower" } else { layers };
    if outside.without("overlay") {
        let bound = mount(Some("lower"), "merged", NULL, MsFlags::MS_BIND, NULL);
        outside.did("mount(\"lower\", \"merged\", NULL, MS_BIND, NULL)", bound)?;
    } else {
        outside
            .did("mount(\"overlay\", \"merged\", \"overlay\", ...)", overlay("merged", layers))?;
    }

    let kept = fs::read_to_string("merged/kept").named("open(\"merged/kept\")")?;
    outside.tell("cat merged/kept", kept.trim_end());
    outside.tell("ls upper | wc -l", ls("upper")?.len());
    let file = File::options().write(true).open("merged/changed");
    let written = file.and_then(|file| file.write_at(b"u", 0));
    outside.tell("pwrite(\"merged/changed\", \"u\", 1, 0)", value(written.map_err(errno)));
    let letters = [first_letter("merged/changed")?, first_letter("lower/changed")?];
    outside.tell("head -c 1 merged/changed lower/changed", letters.join(" "));
    let copy = fs::read("upper/changed").map_err(errno);
    let count = copy.map(|bytes| bytes.iter().filter(|byte| **byte == b'l').count());
    outside.tell("tr -cd l < upper/changed | wc -c", value(count));
    let removed = remove_file("merged/deleted").map_err(errno);
    outside.tell("unlink(\"merged/deleted\")", result(removed));
    outside.tell("stat -c '%A %t:%T' upper/deleted", value(device("upper/deleted")));
    outside
        .tell("creat(\"merged/new\")", result(File::create("merged/new").map(drop).map_err(errno)));
    for layer in ["merged", "upper", "lower"] {
        let names = ls(layer)?.join(" ");
        outside.tell(format!("ls {layer}"), if names.is_empty() { "nothing" } else { &names });
    }
    // One that is still written to is no layer for others. The first in the list is on top.
    outside.did("umount(\"merged\")", umount("merged"))?;
    let next = overlay("next", "lowerdir=upper:lower,upperdir=upper2,workdir=work2");
    outside.did("mount(\"overlay\", \"next\", \"overlay\", ...)", next)?;
    outside.tell("ls next", ls("next")?.join(" "));
    Ok(())
}

fn overlay(at: &str, layers: &str) -> nix::Result<()> {
    mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(layers))
}

fn fill_the_lower_layer() -> io::Result<()> {
    for folder in ["lower", "upper", "work", "merged", "upper2", "work2", "next"] {
        create_dir(folder)?;
    }
    fs::write("lower/kept", "lower\n")?;
    fs::write("lower/changed", [b'l'; SIZE])?;
    fs::write("lower/deleted", "lower\n")
}
// ANCHOR_END: inside

fn ls(folder: &str) -> Result<Vec<String>, Refusal> {
    let entries = read_dir(folder).named(format!("open({folder:?})"))?;
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

fn first_letter(file: &str) -> Result<String, Refusal> {
    let mut letter = [0];
    let read = File::open(file).and_then(|file| file.read_exact_at(&mut letter, 0));
    read.named(format!("read({file:?})"))?;
    Ok(char::from(letter[0]).to_string())
}

/// Type, mode and numbers of a device.
fn device(file: &str) -> nix::Result<String> {
    let file = fs::symlink_metadata(file).map_err(errno)?;
    let kind = if file.file_type().is_char_device() { "c" } else { "?" };
    let mode = if file.mode() & 0o777 == 0 { "---------" } else { "?" };
    Ok(format!("{kind}{mode} {:x}:{:x}", major(file.rdev()), minor(file.rdev())))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}
