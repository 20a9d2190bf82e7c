//! A process without file descriptors: listeners wait for better times, and come back.
#![cfg(target_os = "linux")]

use std::{fs::File, process::Command, time::Duration};

use peerage_transport::{Link, ListenOpts, ListenerEvent, Transport, tcp::Tcp};
use tokio::{net::TcpStream, time::timeout};

/// Runs a test of this file by itself, in a process that may open so many files.
fn with_few_files(test: &str, files: u32) {
    let this = std::env::current_exe().expect("this test");
    let script = format!("ulimit -n {files} && exec \"$0\" --exact {test} --nocapture");
    let run = Command::new("sh").args(["-c", &script]).arg(this).env(CHILD, "1").output().expect("sh runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains(DONE), "{said}{}", String::from_utf8_lossy(&run.stderr));
}

const CHILD: &str = "PEERAGE_TEST_SHORTAGE";
const DONE: &str = "the listener came back";

#[tokio::test]
async fn a_listener_without_file_descriptors_waits_and_comes_back() {
    if std::env::var_os(CHILD).is_none() {
        return with_few_files("a_listener_without_file_descriptors_waits_and_comes_back", 64);
    }
    let address = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
    let mut listener = Tcp::new().listen(address, ListenOpts::default()).await.expect("bound");
    let at = listener.addresses()[0].socket_addr().expect("an address").addr;
    // They connect without being accepted, and wait in the system's queue.
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(TcpStream::connect(at).await.expect("loopback"));
    }
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(hoard.len() > 10);

    // It goes on asking, with longer and longer pauses (which the unit tests measure in virtual time).
    for _ in 0..5 {
        match timeout(Duration::from_secs(30), listener.next()).await.expect("an event") {
            ListenerEvent::Retry(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}"),
            event => panic!("accepted without a file descriptor: {event:?}"),
        }
    }

    // The shortage is over: all who waited are let in.
    hoard.truncate(2);
    for _ in 0..waiting.len() {
        match timeout(Duration::from_secs(30), listener.next()).await.expect("an event") {
            ListenerEvent::Incoming(Link::Raw(_)) => {}
            event => panic!("not accepted: {event:?}"),
        }
    }
    println!("{DONE}");
}
