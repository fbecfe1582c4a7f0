//! `cargo book` serves the pages to this machine, and nothing else to nobody else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// On the port that is free; the address is the first line it prints.
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_book"))
            .args(["serve", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it is");
        let port = line.split_once("http://127.0.0.1:").and_then(|(_, rest)| rest.split_once('/'));
        let port = port.and_then(|(port, _)| port.parse().ok());
        Self { process, port: port.unwrap_or_else(|| panic!("no address: {line}")) }
    }

    /// The answer to a request for this path under this name of the host.
    fn get(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads the request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One server for all: to build the book is most of the work.
#[test]
fn a_server_from_its_start_to_ctrl_c() {
    let server = Server::start();
    it_serves_the_pages_and_nothing_beside_them(&server);
    it_answers_only_to_the_names_of_this_machine(&server);
    it_listens_on_loopback_only(&server);
    ctrl_c_ends_it_with_success(server);
}

fn it_serves_the_pages_and_nothing_beside_them(server: &Server) {
    let index = server.get("/", &server.host());
    assert!(index.starts_with("HTTP/1.1 200 ") && index.contains("text/html"), "{index}");
    assert!(server.get("/pid-demo.html", &server.host()).contains("CLONE_NEWPID"));

    let missing = server.get("/no-such-page.html", &server.host());
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.contains("<html"), "{missing}");
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/..%2fCargo.toml", "//etc/passwd"] {
        let answer = server.get(path, &server.host());
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
}

fn it_answers_only_to_the_names_of_this_machine(server: &Server) {
    let named = format!("localhost:{}", server.port);
    assert!(server.get("/", &named).starts_with("HTTP/1.1 200 "));
    let foreign = ["elsewhere.example", "127.0.0.1", "127.0.0.1.elsewhere.example", ""];
    for host in foreign {
        let answer = server.get("/", host);
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
    let pid = server.process.id().to_string();
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status();
    assert!(sent.expect("sh is there").success());
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
    assert!(said.starts_with(&format!("book: 127.0.0.1:{port}: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
