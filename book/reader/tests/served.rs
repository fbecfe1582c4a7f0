//! `cargo book` serves the pages to this machine, and nothing else to nobody else.

mod server;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use server::Server;

fn get(server: &Server, path: &str, host: &str) -> String {
    let answer = server.ask("GET", path, &[("Host", host)], "");
    answer.head + &answer.body
}

/// One server for all: to build the book is most of the work.
#[test]
fn a_server_from_its_start_to_ctrl_c() {
    let server = Server::start_with(&["--port", "0"], &[]);
    it_serves_the_pages_and_nothing_beside_them(&server);
    it_answers_only_to_the_names_of_this_machine(&server);
    it_listens_on_loopback_only(&server);
    ctrl_c_ends_it_with_success(server);
}

fn it_serves_the_pages_and_nothing_beside_them(server: &Server) {
    let index = get(server, "/", &server.host());
    assert!(index.starts_with("HTTP/1.1 200 ") && index.contains("text/html"), "{index}");
    assert!(get(server, "/pid-demo.html", &server.host()).contains("CLONE_NEWPID"));

    let missing = get(server, "/no-such-page.html", &server.host());
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.contains("<html"), "{missing}");
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/..%2fCargo.toml", "//etc/passwd"] {
        let answer = get(server, path, &server.host());
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
}

fn it_answers_only_to_the_names_of_this_machine(server: &Server) {
    let named = format!("localhost:{}", server.port);
    assert!(get(server, "/", &named).starts_with("HTTP/1.1 200 "));
    let foreign = ["elsewhere.example", "127.0.0.1", "127.0.0.1.elsewhere.example", ""];
    for host in foreign {
        let answer = get(server, "/", host);
        assert!(!answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}

/// The kernel's list of sockets names the address, in hexadecimal: proc_net(5).
fn it_listens_on_loopback_only(server: &Server) {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let port = format!(":{:04X}", server.port);
    let ours = sockets.lines().filter_map(|line| line.split_whitespace().nth(1));
    let ours: Vec<_> = ours.filter(|address| address.ends_with(&port)).collect();
    let loopback = format!("{:08X}{port}", u32::from_ne_bytes([127, 0, 0, 1]));
    assert!(ours.contains(&loopback.as_str()), "{ours:?}");
    assert!(ours.iter().all(|address| *address == loopback), "{ours:?}");
}

fn ctrl_c_ends_it_with_success(mut server: Server) {
    server.interrupt();
    assert!(server.process.wait().expect("it ends").success());
}

#[test]
fn a_port_that_is_taken_is_an_error_of_one_line() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_book"))
        .args(["serve", "--port", &port])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!("book: bind(2) to 127.0.0.1:{port} = -1 EADDRINUSE: say another");
    assert!(said.starts_with(&expected), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
