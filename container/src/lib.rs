//! What container-demo is made of, beside its system calls:
//!
//! - [`bundle`]: what a container shall be: an OCI bundle's config.json
//! - [`privileges`]: what its processes may do
//! - [`runtime`]: how one is asked for, and how its end is told

#[cfg(target_os = "linux")]
pub mod bundle;
#[cfg(target_os = "linux")]
mod members;
#[cfg(target_os = "linux")]
pub mod privileges;
#[cfg(target_os = "linux")]
pub mod runtime;
#[cfg(target_os = "linux")]
mod words;
