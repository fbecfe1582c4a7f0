//! Two containers talk through a bridge.
//!
//! veth(4); network_namespaces(7); rtnetlink(7): RTM_NEWLINK, RTM_NEWADDR, RTM_SETLINK.

use std::fs;
use std::io::read_to_string;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;

use nix::libc::{IFA_LOCAL, IFF_UP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO};
use nix::libc::{IFLA_MASTER, IFLA_NET_NS_PID, RTM_NEWADDR, RTM_NEWLINK, RTM_SETLINK};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, sockopt};
use nix::sys::socket::{connect, send, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Pid;
use workbook::child::{self, Outside};
use workbook::host::{Named as _, Refusal};
use workbook::lesson::{Control, Lesson};
use workbook::netlink::{Message, VETH_INFO_PEER};
use workbook::transcript::{Transcript, result};
use workbook::user;

const LESSON: Lesson = Lesson {
    name: env!("CARGO_BIN_NAME"),
    source: include_str!("veth-demo.rs"),
    claims: &[
        ("veth-1", "The two ends of a veth pair may be in two network namespaces."),
        ("veth-2", "A's message reaches B through a bridge that holds the other ends."),
        ("veth-3", "B sees the address that A gave itself."),
        ("veth-4", "The host is in this network, too: at the bridge's address."),
    ],
    shell: true,
    controls: &[Control {
        name: "master",
        what: "the other end of A's cable is not plugged into the bridge",
        breaks: &["veth-2", "veth-3"],
    }],
};

fn main() -> ExitCode {
    LESSON.run(veth_demo)
}

fn veth_demo(t: &mut Transcript) -> Result<(), Refusal> {
    user::namespace_unless_root(t)?; // unshare(CLONE_NEWUSER), as in uts-demo
    // Outside plays the host, in a network of its own: your host's interfaces are not in it.
    t.did("unshare(CLONE_NEWNET)", unshare(CloneFlags::CLONE_NEWNET))?;
    let (a, mut from_a) = child::forked("A", t, life_of_a)?;
    let (b, mut from_b) = child::forked("B", t, life_of_b)?;
    let ([_unshare], [_unshare_too]) = (from_a.hear(t)?, from_b.hear(t)?);
    t.did("RTM_NEWLINK(vA, veth, IFF_UP; peer eth0, A)", new_veth("vA", a))?;
    t.did("RTM_NEWLINK(vB, veth, IFF_UP; peer eth0, B)", new_veth("vB", b))?;
    from_a.go_on();
    let [_address, eth0_of_a] = from_a.hear(t)?;
    from_b.go_on();
    let [_address, eth0_of_b, _bind] = from_b.hear(t)?;
    t.did("RTM_NEWLINK(br0, bridge, IFF_UP)", new_bridge())?;
    t.did("RTM_NEWADDR(br0, 10.0.0.1/24)", new_address("br0", 1))?;
    if !t.without("master") {
        t.did("RTM_SETLINK(vA, master br0)", plug_into_bridge("vA"))?;
    }
    t.did("RTM_SETLINK(vB, master br0)", plug_into_bridge("vB"))?;
    from_a.go_on();
    let [connected] = from_a.hear(t)?;
    let mut heard = String::new();
    if connected == "0" {
        from_b.go_on();
        [heard] = from_b.hear(t)?;
    }
    t.did("connect(10.0.0.3:80)", say_hello_to_b(10_000))?;
    from_b.go_on();
    let [heard_from_host] = from_b.hear(t)?;

    t.claim("veth-1", eth0_of_a == "0" && eth0_of_b == "0" && if_nametoindex("eth0").is_err());
    t.claim("veth-2", heard.starts_with("\"hello\""));
    t.claim("veth-3", heard.ends_with(" from 10.0.0.2"));
    t.claim("veth-4", heard_from_host == "\"hello\" from 10.0.0.1");
    t.by_hand("unshare -rn sh -c 'ip link add type veth; grep -c veth /proc/net/dev'", 2);
    from_a.leave(t)
}

// ANCHOR: messages
/// Both ends at once: one here, the other in the network namespace of a process.
fn new_veth(name: &str, process: Pid) -> nix::Result<()> {
    let link = Message::link(RTM_NEWLINK, IFF_UP).text(IFLA_IFNAME, name);
    let peer = |peer: Message| {
        let peer = peer.interface(0).text(IFLA_IFNAME, "eth0");
        peer.number(IFLA_NET_NS_PID, process.as_raw() as u32)
    };
    let data = |data: Message| data.nested(VETH_INFO_PEER, peer);
    let info = |info: Message| info.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, data);
    link.nested(IFLA_LINKINFO, info).send()
}

fn new_bridge() -> nix::Result<()> {
    let link = Message::link(RTM_NEWLINK, IFF_UP).text(IFLA_IFNAME, "br0");
    link.nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge")).send()
}

fn plug_into_bridge(name: &str) -> nix::Result<()> {
    let link = Message::link(RTM_SETLINK, 0).text(IFLA_IFNAME, name);
    link.number(IFLA_MASTER, if_nametoindex("br0")?).send()
}

fn new_address(name: &str, last: u8) -> nix::Result<()> {
    Message::address(RTM_NEWADDR, name, 24)?.ipv4(IFA_LOCAL, [10, 0, 0, last]).send()
}
// ANCHOR_END: messages

// ANCHOR: lives
/// How the lives of A and B begin.
fn get_eth0(outside: &mut Outside, last: u8) -> Result<(), Refusal> {
    outside.did("unshare(CLONE_NEWNET)", unshare(CloneFlags::CLONE_NEWNET))?;
    outside.wait(); // for the cable
    outside.did(&format!("RTM_NEWADDR(eth0, 10.0.0.{last}/24)"), new_address("eth0", last))?;
    let up = Message::link(RTM_SETLINK, IFF_UP).text(IFLA_IFNAME, "eth0").send();
    // An ARP request that comes too early is lost. Ask again soon, and not in a second: arp(7).
    let _ = fs::write("/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms", "10"); // refused: it is a second
    outside.did("RTM_SETLINK(eth0, IFF_UP)", up)
}

fn life_of_a(outside: &mut Outside) -> Result<(), Refusal> {
    get_eth0(outside, 2)?;
    outside.wait();
    let milliseconds = if outside.without("master") { 300 } else { 10_000 };
    outside.tell("connect(10.0.0.3:80)", result(say_hello_to_b(milliseconds)));
    Ok(())
}

/// B serves whoever comes, until outside ends it.
fn life_of_b(outside: &mut Outside) -> Result<(), Refusal> {
    get_eth0(outside, 3)?;
    let server = TcpListener::bind("10.0.0.3:80").named("bind(10.0.0.3:80)")?;
    setsockopt(&server, sockopt::ReceiveTimeout, &TimeVal::seconds(10)).named("setsockopt(2)")?;
    outside.tell("bind(10.0.0.3:80)", 0);
    loop {
        outside.wait();
        let (stream, peer) = server.accept().named("accept4(2)")?;
        let said = read_to_string(stream).named("read(2)")?;
        outside.tell("accept() and read()", format!("{said:?} from {}", peer.ip()));
    }
}
// ANCHOR_END: lives

fn say_hello_to_b(milliseconds: i64) -> nix::Result<()> {
    let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&stream, sockopt::SendTimeout, &TimeVal::milliseconds(milliseconds))?; // EINPROGRESS
    connect(stream.as_raw_fd(), &SockaddrIn::new(10, 0, 0, 3, 80))?;
    send(stream.as_raw_fd(), b"hello", MsgFlags::empty()).map(drop)
}
