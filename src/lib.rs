//! What the lessons share. Each file is one thing:
//!
//! - [`lesson`]: what a lesson declares, its options, its exit codes
//! - [`transcript`]: how a lesson speaks: observations, claims, the same by hand
//! - [`child`]: two processes, outside and inside, that take turns
//! - [`text`]: lines on a terminal
//! - [`user`]: the user namespace that an ordinary user needs before any other
//! - [`proc`]: what `/proc` says about a process and its namespaces
//! - [`mounts`]: mounts that stay inside
//! - [`roots`]: which directory is somebody's `/`, and the way out of a chroot
//! - [`cgroups`]: a cgroup of a lesson's own, and who removes it
//! - [`netlink`]: messages that make and change network interfaces
//! - [`shell`]: staying inside with a shell
//! - [`tool`]: running the tools that some lessons look at, with a deadline
//! - [`guest`]: what a virtual machine is started with: a kernel and a first file system
//! - [`kvm`]: what linux/kvm.h declares, for kvm-demo
//! - [`host`]: a call that this host refused, and the evidence for why
//! - [`bpf`]: what linux/filter.h and linux/audit.h declare, for filters
//! - [`causes`]: what an errno means on this host, and what to do about it
//! - [`needs`]: what lessons need, and whether this host has it
//! - [`doctor`]: what comes of each lesson on this host, and why
//! - [`contents`]: the lessons in the book's order
//! - [`progress`]: how far the reader has come
//! - [`reset`]: forgets it
//! - [`map`]: draws who is in which namespace
//! - [`programs`]: the lessons' programs, built where they are not
//!
//! The namespaces themselves are not here: a lesson makes its system calls in its own file,
//! where they can be read.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Namespaces are a feature of the Linux kernel: this workbook runs on Linux only. \
     On macOS or Windows run it in a Linux virtual machine (WSL2, Lima, UTM, Multipass) or in a \
     Linux container started with `docker run --privileged`."
);

#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
pub mod causes;
#[cfg(target_os = "linux")]
pub mod cgroups;
#[cfg(target_os = "linux")]
pub mod child;
#[cfg(target_os = "linux")]
pub mod contents;
#[cfg(target_os = "linux")]
pub mod doctor;
#[cfg(target_os = "linux")]
pub mod greeting;
#[cfg(target_os = "linux")]
pub mod guest;
#[cfg(target_os = "linux")]
pub mod host;
#[cfg(target_os = "linux")]
pub mod kvm;
#[cfg(target_os = "linux")]
pub mod lesson;
#[cfg(target_os = "linux")]
pub mod map;
#[cfg(target_os = "linux")]
pub mod mounts;
#[cfg(target_os = "linux")]
pub mod needs;
#[cfg(target_os = "linux")]
pub mod netlink;
#[cfg(target_os = "linux")]
pub mod proc;
#[cfg(target_os = "linux")]
pub mod programs;
#[cfg(target_os = "linux")]
pub mod progress;
#[cfg(target_os = "linux")]
pub mod reset;
#[cfg(target_os = "linux")]
pub mod roots;
#[cfg(target_os = "linux")]
pub mod shell;
#[cfg(target_os = "linux")]
pub mod text;
#[cfg(target_os = "linux")]
pub mod tool;
#[cfg(target_os = "linux")]
pub mod transcript;
#[cfg(target_os = "linux")]
pub mod user;
