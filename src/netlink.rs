//! A few messages of rtnetlink(7), which makes and changes network interfaces. Each is sent on its
//! own, and the kernel acknowledges it: netlink(7).
//!
//! A message is a header, a struct, and attributes. An attribute is a length, a type and a value,
//! filled up to four bytes. Its value can be attributes again.

use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// In the data of a veth: its other end, as a struct ifinfomsg with attributes. From linux/veth.h.
pub const VETH_INFO_PEER: u16 = 1;

/// What [`lo_up`] sends.
pub const LO_UP: &str = "send(RTM_SETLINK, \"lo\", IFF_UP)";

/// Raises the loopback interface, which in a new network namespace is down: net-demo.
pub fn lo_up() -> nix::Result<()> {
    Message::link(libc::RTM_SETLINK, libc::IFF_UP).text(libc::IFLA_IFNAME, "lo").send()
}

/// A message that is being written.
pub struct Message(Vec<u8>);

/// sizeof(struct nlmsghdr)
const HEADER: usize = 16;
/// sizeof(struct nlattr), or of struct rtattr, which is the same
const ATTRIBUTE: usize = 4;

impl Message {
    /// A message about an interface: its struct ifinfomsg sets these flags, such as `IFF_UP`.
    pub fn link(kind: u16, flags: c_int) -> Self {
        Self::new(kind).interface(flags)
    }

    /// A message about an IPv4 address of an interface: its struct ifaddrmsg.
    pub fn address(kind: u16, interface: &str, prefix: u8) -> nix::Result<Self> {
        let mut message = Self::new(kind);
        message.0.extend([libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        message.0.extend(if_nametoindex(interface)?.to_ne_bytes());
        Ok(message)
    }

    /// A struct nlmsghdr: length, type, flags, sequence number, port. The length is set by `send`.
    /// What a message makes must be new: EEXIST.
    fn new(kind: u16) -> Self {
        let new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | new) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    /// A struct ifinfomsg: family, type, index, flags, and which of the flags to change. Without an
    /// index, the attribute `IFLA_IFNAME` says which interface is meant.
    pub fn interface(mut self, flags: c_int) -> Self {
        for field in [0, 0, flags, flags] {
            self.0.extend(field.to_ne_bytes());
        }
        self
    }

    /// An attribute whose value is a name.
    pub fn text(self, attribute: u16, text: &str) -> Self {
        self.value(attribute, &[text.as_bytes(), &[0]].concat())
    }

    /// An attribute whose value is a number.
    pub fn number(self, attribute: u16, number: u32) -> Self {
        self.value(attribute, &number.to_ne_bytes())
    }

    /// An attribute whose value is an IPv4 address.
    pub fn ipv4(self, attribute: u16, address: [u8; 4]) -> Self {
        self.value(attribute, &address)
    }

    /// An attribute whose value is what `inner` writes.
    pub fn nested(self, attribute: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let value = inner(Self(Vec::new()));
        self.value(attribute, &value.0)
    }

    fn value(mut self, attribute: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(attribute.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Sends it to the kernel, for the network namespace that we are in, and takes the answer.
    pub fn send(mut self) -> nix::Result<()> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let (raw, close) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let route = socket(AddressFamily::Netlink, raw, close, SockProtocol::NetlinkRoute)?;
        send(route.as_raw_fd(), &self.0, MsgFlags::empty())?;

        // The kernel has answered before send(2) returns: NLMSG_ERROR, with an errno after its
        // header that is negative, or zero for an acknowledgement.
        let mut answer = [0; 1024];
        let length = recv(route.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let errno =
            answer[..length].get(HEADER..HEADER + 4).and_then(|errno| errno.try_into().ok());
        match errno.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw(-errno)),
            None => Err(Errno::EBADMSG),
        }
    }
}
