use std::{net::IpAddr, pin::pin};

use futures::future::{BoxFuture, Either, select};
use peerage_core::Multiaddr;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    DnsError, LOOKUP_TIMEOUT, MAX_ANSWERS, RESOLUTION_DELAY, Resolver,
    name::{self, Named},
};

/// Resolves the name at the beginning of `address`, and tells `found` the addresses as they come: IPv6 before IPv4
/// where both come together, otherwise whichever is there first.
///
/// Asks as many questions as [`lookups`](super::lookups) says, and ends by `deadline`. What is found may begin with a
/// name again, and may be what was asked.
///
/// # Errors
/// [`DnsError`] if nothing was found. An address without a name is [`DnsError::BadName`].
pub async fn resolve(
    resolver: &dyn Resolver,
    address: &Multiaddr,
    deadline: Instant,
    mut found: impl FnMut(Vec<Multiaddr>),
) -> Result<(), DnsError> {
    let step = Step { resolver, address, deadline: deadline.min(soon(LOOKUP_TIMEOUT)) };
    match name::of(address) {
        None => Err(DnsError::BadName(address.to_string())),
        Some(Named::Ip4(name)) => step.ip4(&name).await.map(found),
        Some(Named::Ip6(name)) => step.ip6(&name).await.map(found),
        Some(Named::Any(name)) => step.both(&name, &mut found).await,
        Some(Named::Addresses(domain)) => step.records(&domain).await.map(found),
    }
}

struct Step<'a> {
    resolver: &'a dyn Resolver,
    address: &'a Multiaddr,
    deadline: Instant,
}

impl Step<'_> {
    async fn both(&self, name: &str, found: &mut impl FnMut(Vec<Multiaddr>)) -> Result<(), DnsError> {
        let mut tell = |result: Result<Vec<Multiaddr>, DnsError>| result.map(&mut *found);
        let (six, four) = (pin!(self.ip6(name)), pin!(self.ip4(name)));
        let (six, four) = match select(six, four).await {
            Either::Left((six, four)) => (tell(six), tell(four.await)),
            Either::Right((four, mut six)) => match timeout(RESOLUTION_DELAY, &mut six).await {
                Ok(six) => (tell(six), tell(four)),
                Err(_) => {
                    let four = tell(four);
                    (tell(six.await), four)
                }
            },
        };
        match (six, four) {
            (Ok(()), _) | (_, Ok(())) => Ok(()),
            // That one family is not there says least.
            (Err(DnsError::NotFound(_)), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }

    async fn ip4(&self, name: &str) -> Result<Vec<Multiaddr>, DnsError> {
        let ips = match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => vec![ip],
            _ => self.ask(self.resolver.ip4(name)).await?,
        };
        self.usable(name, ips, |ip| name::with_ip(self.address, ip.into()))
    }

    async fn ip6(&self, name: &str) -> Result<Vec<Multiaddr>, DnsError> {
        let ips = match name.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => vec![ip],
            _ => self.ask(self.resolver.ip6(name)).await?,
        };
        self.usable(name, ips, |ip| name::with_ip(self.address, ip.into()))
    }

    async fn records(&self, domain: &str) -> Result<Vec<Multiaddr>, DnsError> {
        // To the letter: no search domain of this machine knows it better.
        let name = format!("_dnsaddr.{}.", domain.trim_end_matches('.'));
        let records = self.ask(self.resolver.texts(&name)).await?;
        self.usable(domain, records, |record| name::in_record(self.address, &record))
    }

    async fn ask<T>(&self, answer: BoxFuture<'static, Result<T, DnsError>>) -> Result<T, DnsError> {
        timeout_at(self.deadline, answer).await.unwrap_or(Err(DnsError::Timeout))
    }

    fn usable<T>(
        &self,
        name: &str,
        records: Vec<T>,
        address: impl Fn(T) -> Option<Multiaddr>,
    ) -> Result<Vec<Multiaddr>, DnsError> {
        let count = records.len();
        let mut usable: Vec<_> = records.into_iter().take(MAX_ANSWERS).filter_map(address).collect();
        usable.dedup();
        match (usable.is_empty(), count) {
            (false, _) => Ok(usable),
            (true, 0) => Err(DnsError::NotFound(name.to_owned())),
            (true, records) => Err(DnsError::Unusable { name: name.to_owned(), records }),
        }
    }
}

fn soon(wait: std::time::Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
