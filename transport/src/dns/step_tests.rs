use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use futures::FutureExt as _;
use peerage_security::Fault;

use super::*;

/// Answers each kind of question after a while; a kind without an answer is never answered.
#[derive(Default)]
struct Fake {
    answers: BTreeMap<&'static str, (u64, Result<Vec<String>, DnsError>)>,
}

impl Fake {
    fn with(mut self, kind: &'static str, after_ms: u64, answers: &[&str]) -> Self {
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        self.answers.insert(kind, (after_ms, Ok(answers)));
        self
    }

    fn failing(mut self, kind: &'static str, error: DnsError) -> Self {
        self.answers.insert(kind, (0, Err(error)));
        self
    }

    fn answer<T: Send + 'static>(
        &self,
        kind: &str,
        read: fn(String) -> T,
    ) -> BoxFuture<'static, Result<Vec<T>, DnsError>> {
        match self.answers.get(kind).cloned() {
            None => futures::future::pending().boxed(),
            Some((after, answers)) => async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                answers.map(|answers| answers.into_iter().map(read).collect())
            }
            .boxed(),
        }
    }
}

impl Resolver for Fake {
    fn ip4(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>> {
        assert_eq!(name, "h");
        self.answer("a", |ip| ip.parse().unwrap())
    }

    fn ip6(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>> {
        assert_eq!(name, "h");
        self.answer("aaaa", |ip| ip.parse().unwrap())
    }

    fn texts(&self, name: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>> {
        assert_eq!(name, "_dnsaddr.h.");
        self.answer("txt", String::into_bytes)
    }
}

/// What came, each with the milliseconds after which it did, and how it ended, with the same.
async fn resolved(fake: &Fake, address: &str) -> (Vec<(u64, String)>, Result<(), DnsError>, u64) {
    let began = Instant::now();
    let since = || u64::try_from(began.elapsed().as_millis()).unwrap();
    let mut came = Vec::new();
    let end = began + Duration::from_secs(60);
    let result = resolve(fake, &address.parse().unwrap(), end, |found| {
        came.extend(found.iter().map(|address| (since(), address.to_string())));
    })
    .await;
    (came, result, since())
}

fn at(came: &[(u64, &str)]) -> Vec<(u64, String)> {
    came.iter().map(|(at, address)| (*at, (*address).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn ip6_comes_first_if_it_is_not_late() {
    let (six, four) = ("/ip6/2001:db8::1/tcp/1", "/ip4/192.0.2.1/tcp/1");
    for (after6, after4, expected) in [
        (10, 20, at(&[(10, six), (20, four)])),
        (30, 10, at(&[(30, six), (30, four)])),
        (59, 10, at(&[(59, six), (59, four)])),
        (61, 10, at(&[(60, four), (61, six)])),
    ] {
        let fake = Fake::default().with("aaaa", after6, &["2001:db8::1"]).with("a", after4, &["192.0.2.1"]);
        let (came, result, _) = resolved(&fake, "/dns/h/tcp/1").await;
        assert_eq!((came, result), (expected, Ok(())));
    }
}

#[tokio::test(start_paused = true)]
async fn one_family_is_enough_and_the_other_costs_no_more_than_a_question() {
    let fake = Fake::default().with("a", 1, &["192.0.2.1"]);
    let (came, result, took) = resolved(&fake, "/dns/h/tcp/1").await;
    assert_eq!((came, result), (at(&[(51, "/ip4/192.0.2.1/tcp/1")]), Ok(())));
    assert_eq!(took, 5000);
    let missing = || DnsError::NotFound("h".into());
    let fake = Fake::default().with("aaaa", 1, &["2001:db8::1"]).failing("a", missing());
    let (came, result, took) = resolved(&fake, "/dns/h/tcp/1").await;
    assert_eq!((came.len(), result, took), (1, Ok(()), 1));
}

#[tokio::test(start_paused = true)]
async fn of_two_errors_the_one_that_says_more() {
    let missing = || DnsError::NotFound("h".into());
    let broken = || DnsError::Failed("refused".into());
    for (six, four, told) in
        [(missing(), missing(), missing()), (missing(), broken(), broken()), (broken(), missing(), broken())]
    {
        let fake = Fake::default().failing("aaaa", six).failing("a", four);
        assert_eq!(resolved(&fake, "/dns/h/tcp/1").await.1, Err(told));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_says_nothing_costs_five_seconds_or_what_is_left() {
    for address in ["/dns/h/tcp/1", "/dns4/h/tcp/1", "/dns6/h/tcp/1", "/dnsaddr/h"] {
        let (came, result, took) = resolved(&Fake::default(), address).await;
        assert_eq!((came.len(), result, took), (0, Err(DnsError::Timeout), 5000), "{address}");
        let began = Instant::now();
        let end = began + Duration::from_secs(1);
        resolve(&Fake::default(), &address.parse().unwrap(), end, drop).await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::from_secs(1), "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn ip4_in_the_clothes_of_ip6_is_refused() {
    let fake = Fake::default().with("aaaa", 0, &["::ffff:127.0.0.1", "::ffff:10.0.0.1"]);
    let (came, result, _) = resolved(&fake, "/dns6/h/tcp/1").await;
    let error = result.unwrap_err();
    assert_eq!((came.len(), &error), (0, &DnsError::Unusable { name: "h".into(), records: 2 }));
    assert_eq!(error.fault(), Fault::Remote);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_addresses_already_ask_nobody() {
    let fake = Fake::default().failing("aaaa", DnsError::NotFound("h".into()));
    let (came, ..) = resolved(&fake, "/dns4/192.0.2.1/tcp/1").await;
    assert_eq!(came, at(&[(0, "/ip4/192.0.2.1/tcp/1")]));
    let (came, ..) = resolved(&fake, "/dns6/::1/tcp/1").await;
    assert_eq!(came, at(&[(0, "/ip6/::1/tcp/1")]));
    assert!(resolved(&fake, "/dns6/::ffff:127.0.0.1/tcp/1").await.1.is_err());
}

#[tokio::test(start_paused = true)]
async fn so_many_answers_and_no_more() {
    let ips: Vec<String> = (0..=MAX_ANSWERS).map(|n| format!("192.0.2.{n}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    for (answers, counted) in [(MAX_ANSWERS, MAX_ANSWERS), (MAX_ANSWERS + 1, MAX_ANSWERS)] {
        let fake = Fake::default().with("a", 0, &ips[..answers]);
        assert_eq!(resolved(&fake, "/dns4/h/tcp/1").await.0.len(), counted);
    }
}

#[tokio::test(start_paused = true)]
async fn records_hold_addresses() {
    let fake = Fake::default().with(
        "txt",
        0,
        &["v=spf1 -all", "dnsaddr=/ip4/192.0.2.1/tcp/1", "dnsaddr=/dns6/other/tcp/2", "dnsaddr=/dnsaddr/h"],
    );
    let (came, result, _) = resolved(&fake, "/dnsaddr/h").await;
    assert_eq!(result, Ok(()));
    assert_eq!(came, at(&[(0, "/ip4/192.0.2.1/tcp/1"), (0, "/dns6/other/tcp/2"), (0, "/dnsaddr/h")]));
    let (.., result, _) = resolved(&Fake::default().with("txt", 0, &[]), "/dnsaddr/h").await;
    assert_eq!(result, Err(DnsError::NotFound("h".into())));
}
