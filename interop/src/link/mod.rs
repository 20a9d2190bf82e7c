//! A long way between two network namespaces: what one sends comes to the other late, as fast as the link is, and not
//! always. The kernel's own emulator is not everywhere, so packets pass through this program, between two TUN devices.
//!
//! Nothing of it touches the network of the machine: both ends are in namespaces that end with this program.

#![allow(clippy::disallowed_methods, reason = "packets are delayed in real time")]

mod carry;
mod shape;

use std::{ffi::OsStr, path::Path};

use tokio::process::Command;
use tun_rs::{DeviceBuilder, SyncDevice};

use self::carry::Carrier;
pub(crate) use self::shape::Shape;
use crate::child::Child;

/// The two ends, in the range that RFC 2544 has for measurements.
pub(crate) const NEAR: &str = "198.18.0.1";
pub(crate) const FAR: &str = "198.18.0.2";
/// Bytes in a packet.
const MTU: u16 = 1500;
/// Packets that the kernel keeps until they are read: the queue that is meant is the link's.
const KERNEL_QUEUE: &str = "20000";

/// Two namespaces and the link between them, until it is dropped.
pub(crate) struct Link {
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
    _carriers: [Carrier; 2],
}

impl Link {
    /// Makes both namespaces, and begins to carry packets.
    ///
    /// # Errors
    /// In words; mostly that only root may do it.
    pub(crate) async fn start(shape: &Shape) -> Result<Self, String> {
        let (near, near_end) = Namespace::new("a", NEAR).await?;
        let (far, far_end) = Namespace::new("b", FAR).await?;
        let (near_end, far_end) = (near_end.into(), far_end.into());
        let carriers =
            [Carrier::start(&near_end, &far_end, shape, 1), Carrier::start(&far_end, &near_end, shape, 2)];
        let [there, back] = carriers;
        Ok(Self { near, far, _carriers: [there?, back?] })
    }
}

/// A network of its own, held by a program that waits in it.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// With one device, which has this address and the other end as its neighbour.
    async fn new(name: &str, address: &str) -> Result<(Self, SyncDevice), String> {
        let mut holder =
            Child::spawn(Path::new("unshare"), ["--net", "--", "sh", "-c", "echo there; exec cat"])?;
        if holder.line().await.is_none() {
            let why = holder.stderr().join(" / ");
            return Err(format!(
                "no network namespace: {why}; as root it works, and so it does behind `unshare -Urn`"
            ));
        }
        let namespace = Self { holder };
        let device = format!("plink{}{name}", std::process::id());
        let end = DeviceBuilder::new()
            .name(&device)
            .mtu(MTU)
            .enable(false)
            .build_sync()
            .map_err(|error| format!("no TUN device: {error}"))?;
        let id = namespace.holder.id().ok_or("the namespace is gone")?.to_string();
        run("ip", ["link", "set", &device, "netns", &id]).await?;
        let network = format!("{address}/30");
        namespace.ip(&["address", "add", &network, "dev", &device]).await?;
        let queue = ["txqueuelen", KERNEL_QUEUE];
        namespace
            .ip(&[&["link", "set", &device, "mtu", &MTU.to_string()][..], &queue, &["up"]].concat())
            .await?;
        namespace.ip(&["link", "set", "lo", "up"]).await?;
        Ok((namespace, end))
    }

    /// Runs a program inside.
    pub(crate) fn spawn<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Child, String> {
        let before = [self.enter().into(), OsStr::new("--").to_owned(), program.as_os_str().to_owned()];
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        Child::spawn(Path::new("nsenter"), before.into_iter().chain(args))
    }

    async fn ip(&self, args: &[&str]) -> Result<(), String> {
        run("nsenter", [&[self.enter().as_str(), "ip"], args].concat()).await
    }

    /// The option of `nsenter` that names it.
    fn enter(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.id().unwrap_or_default())
    }
}

async fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<(), String> {
    let output = Command::new(program).args(args).output().await;
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
