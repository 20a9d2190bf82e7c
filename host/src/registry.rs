//! Which protocols this node serves, and who handles their streams.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use peerage_core::{ProtocolId, protocol_id};

use crate::protocol::ServeOptions;

/// The most matchers that a node serves at once, of all kinds together.
pub const MAX_SERVED: usize = 1024;

/// Which names of protocols a handler takes.
#[derive(Clone)]
#[non_exhaustive]
pub enum Matcher {
    /// This one name; the only kind that peers are told of.
    Exact(ProtocolId),
    /// Every name that begins so.
    Prefix(String),
    /// Every name for which it returns `true`. It is asked for names that strangers made up, on the connection's
    /// task: it must be quick, and a panic is charged to the peer.
    Predicate(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl Matcher {
    /// The protocol of this name.
    ///
    /// # Errors
    ///
    /// When it names no protocol.
    pub fn exact(name: &str) -> Result<Self, ServeError> {
        Ok(Self::Exact(ProtocolId::new(name)?))
    }

    /// Every protocol whose name begins so.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::Prefix(prefix.into())
    }

    /// Every protocol for whose name `matches` returns `true`; see [`Matcher::Predicate`].
    pub fn predicate(matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::Predicate(Arc::new(matches))
    }
}

impl From<ProtocolId> for Matcher {
    fn from(protocol: ProtocolId) -> Self {
        Self::Exact(protocol)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(protocol) => f.debug_tuple("Exact").field(protocol).finish(),
            Self::Prefix(prefix) => f.debug_tuple("Prefix").field(prefix).finish(),
            Self::Predicate(_) => f.write_str("Predicate(..)"),
        }
    }
}

/// One matcher that is being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServingId(u64);

impl fmt::Display for ServingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serving {}", self.0)
    }
}

/// Why a protocol cannot be served; always this program's own doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// What was given is no protocol's name.
    #[error("not a protocol id: {0}")]
    InvalidProtocol(#[from] protocol_id::Error),
    /// Another handler has the same name, or the same prefix.
    #[error("{name} is already served; stop serving it first")]
    AlreadyServed {
        /// The name or prefix.
        name: String,
    },
    /// A prefix that is empty, and would take every protocol, or longer than any protocol's name.
    #[error("a prefix has 1 to {} bytes, this one has {len}", protocol_id::MAX_LEN)]
    BadPrefix {
        /// Its bytes.
        len: usize,
    },
    /// [`MAX_SERVED`] is reached.
    #[error("protocols served: limit of {MAX_SERVED} reached for this node")]
    TooMany,
}

/// What [`Registry::find`] found.
#[derive(Clone, Debug)]
pub(crate) struct Found<H> {
    pub(crate) id: ServingId,
    pub(crate) options: ServeOptions,
    pub(crate) handler: H,
}

/// Finds the handler of an inbound stream. Cheap to clone; every connection has one.
pub(crate) struct Registry<H>(Arc<RwLock<Table<H>>>);

struct Table<H> {
    last: u64,
    exact: BTreeMap<ProtocolId, Found<H>>,
    prefixes: BTreeMap<String, Found<H>>,
    /// Copied on write, so that a search takes it out of the lock for the price of a counter.
    predicates: Arc<Vec<(Predicate, Found<H>)>>,
}

type Predicate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl<H: Clone> Registry<H> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Serves what `matcher` matches.
    pub(crate) fn add(
        &self,
        matcher: Matcher,
        options: ServeOptions,
        handler: H,
    ) -> Result<ServingId, ServeError> {
        self.write(|table| {
            table.check(&matcher)?;
            table.last = table.last.saturating_add(1);
            let id = ServingId(table.last);
            let entry = Found { id, options, handler };
            match matcher {
                Matcher::Exact(protocol) => drop(table.exact.insert(protocol, entry)),
                Matcher::Prefix(prefix) => drop(table.prefixes.insert(prefix, entry)),
                Matcher::Predicate(predicate) => {
                    Arc::make_mut(&mut table.predicates).push((predicate, entry))
                }
            }
            Ok(id)
        })
    }

    /// Serves it no longer; streams that are open stay so. `false` if it was not served any more.
    pub(crate) fn remove(&self, id: ServingId) -> bool {
        self.write(|table| {
            let before = table.len();
            table.exact.retain(|_, entry| entry.id != id);
            table.prefixes.retain(|_, entry| entry.id != id);
            if table.predicates.iter().any(|(_, entry)| entry.id == id) {
                Arc::make_mut(&mut table.predicates).retain(|(_, entry)| entry.id != id);
            }
            table.len() < before
        })
    }

    /// Who handles the protocol `name`: an exact match before the longest prefix, before the first predicate. The
    /// first match decides: if it is not for `limited` connections, nobody handles it there.
    ///
    /// Panics as the predicates do; the registry is untouched by that.
    pub(crate) fn find(&self, name: &str, limited: bool) -> Option<Found<H>> {
        let predicates = {
            let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = table.by_name(name) {
                return entry.on(limited);
            }
            Arc::clone(&table.predicates)
        };
        let (_, entry) = predicates.iter().find(|(predicate, _)| predicate(name))?;
        entry.on(limited)
    }

    /// Lets go of every handler, and of what it holds.
    pub(crate) fn clear(&self) {
        // Dropped outside the lock: handlers may hold anything.
        let old = self.write(|table| {
            (
                std::mem::take(&mut table.exact),
                std::mem::take(&mut table.prefixes),
                std::mem::take(&mut table.predicates),
            )
        });
        drop(old);
    }

    /// The exact names, sorted: what identify tells.
    pub(crate) fn advertised(&self) -> Vec<ProtocolId> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.exact.keys().cloned().collect()
    }

    fn write<T>(&self, change: impl FnOnce(&mut Table<H>) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<H> Table<H> {
    fn len(&self) -> usize {
        self.exact.len().saturating_add(self.prefixes.len()).saturating_add(self.predicates.len())
    }

    fn check(&self, matcher: &Matcher) -> Result<(), ServeError> {
        let taken = match matcher {
            Matcher::Exact(protocol) => self.exact.contains_key(protocol).then_some(protocol.as_str()),
            Matcher::Prefix(prefix) if !(1..=protocol_id::MAX_LEN).contains(&prefix.len()) => {
                return Err(ServeError::BadPrefix { len: prefix.len() });
            }
            Matcher::Prefix(prefix) => self.prefixes.contains_key(prefix).then_some(prefix.as_str()),
            Matcher::Predicate(_) => None,
        };
        if let Some(name) = taken {
            return Err(ServeError::AlreadyServed { name: name.to_owned() });
        }
        if self.len() < MAX_SERVED { Ok(()) } else { Err(ServeError::TooMany) }
    }

    fn by_name(&self, name: &str) -> Option<&Found<H>> {
        self.exact.get(name).or_else(|| {
            // Of the prefixes of one name a longer one sorts later.
            let mut up_to = self.prefixes.range::<str, _>((Bound::Unbounded, Bound::Included(name))).rev();
            up_to.find(|(prefix, _)| name.starts_with(prefix.as_str())).map(|(_, entry)| entry)
        })
    }
}

impl<H: Clone> Found<H> {
    fn on(&self, limited: bool) -> Option<Found<H>> {
        (self.options.allow_limited || !limited).then(|| self.clone())
    }
}

impl<H> Default for Registry<H> {
    fn default() -> Self {
        let (exact, prefixes) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(RwLock::new(Table { last: 0, exact, prefixes, predicates: Arc::default() })))
    }
}

impl<H> Clone for Registry<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H> fmt::Debug for Registry<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Registry")
            .field("exact", &table.exact.keys())
            .field("prefixes", &table.prefixes.keys())
            .field("predicates", &table.predicates.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::limits::StreamLimits;

    fn exact(name: &str) -> Matcher {
        Matcher::exact(name).unwrap()
    }

    fn prefix(name: &str) -> Matcher {
        Matcher::prefix(name)
    }

    fn predicate(matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Matcher {
        Matcher::predicate(matches)
    }

    fn serve(registry: &Registry<&'static str>, matcher: Matcher, handler: &'static str) -> ServingId {
        registry.add(matcher, ServeOptions::default(), handler).unwrap()
    }

    fn found(registry: &Registry<&'static str>, name: &str) -> Option<&'static str> {
        registry.find(name, false).map(|found| found.handler)
    }

    #[test]
    fn exact_before_longest_prefix_before_first_predicate() {
        let registry = Registry::new();
        serve(&registry, predicate(|name| name.starts_with("/a")), "first predicate");
        serve(&registry, predicate(|_| true), "second predicate");
        serve(&registry, prefix("/a/b"), "short prefix");
        serve(&registry, prefix("/a/b/c"), "long prefix");
        serve(&registry, prefix("/a/b/a"), "other prefix");
        let id = serve(&registry, exact("/a/b/c/1"), "exact");

        assert_eq!(found(&registry, "/a/b/c/1"), Some("exact"));
        assert_eq!(found(&registry, "/a/b/c/2"), Some("long prefix"));
        assert_eq!(found(&registry, "/a/b/z"), Some("short prefix"));
        assert_eq!(found(&registry, "/a/b"), Some("short prefix"));
        assert_eq!(found(&registry, "/a/x"), Some("first predicate"));
        assert_eq!(found(&registry, "/z"), Some("second predicate"));

        assert!(registry.remove(id));
        assert!(!registry.remove(id));
        assert_eq!(found(&registry, "/a/b/c/1"), Some("long prefix"));
    }

    #[test]
    fn nobody_serves_it() {
        let registry = Registry::new();
        serve(&registry, exact("/x/1"), "x");
        serve(&registry, prefix("/y/"), "y");
        assert_eq!(found(&registry, "/x/10"), None);
        assert_eq!(found(&registry, "/y"), None);
        assert_eq!(found(&registry, ""), None);
    }

    #[test]
    fn limited_connections_are_for_those_who_allow_them() {
        let registry = Registry::new();
        let options = ServeOptions::default().limits(StreamLimits::new(2, 20)).allow_limited();
        let id = registry.add(exact("/relayed/1"), options, "relayed").unwrap();
        serve(&registry, exact("/direct/1"), "direct");
        registry.add(prefix("/direct"), options, "prefix").unwrap();

        let relayed = registry.find("/relayed/1", true).unwrap();
        assert_eq!((relayed.id, relayed.options.limits), (id, options.limits));
        assert!(registry.find("/relayed/1", false).is_some());
        assert!(
            registry.find("/direct/1", true).is_none(),
            "the exact match decides, though the prefix would do"
        );
        assert!(registry.find("/direct/2", true).is_some());
    }

    #[test]
    fn only_exact_names_are_advertised_and_sorted() {
        let registry = Registry::new();
        serve(&registry, exact("/b/1"), "b");
        serve(&registry, exact("/a/1"), "a");
        serve(&registry, prefix("/c"), "c");
        assert_eq!(registry.advertised(), ["/a/1", "/b/1"]);
    }

    #[test]
    fn the_same_twice_is_refused_until_removed() {
        let registry = Registry::new();
        let id = serve(&registry, exact("/x/1"), "x");
        serve(&registry, prefix("/x"), "prefix");
        let again = |matcher| registry.add(matcher, ServeOptions::default(), "again");
        assert_eq!(again(exact("/x/1")), Err(ServeError::AlreadyServed { name: "/x/1".to_owned() }));
        assert_eq!(again(prefix("/x")), Err(ServeError::AlreadyServed { name: "/x".to_owned() }));
        assert!(registry.remove(id));
        assert!(again(exact("/x/1")).is_ok());
    }

    #[test]
    fn what_is_no_name_is_not_served() {
        let error = Matcher::exact("").unwrap_err();
        assert_eq!(error, ServeError::InvalidProtocol(protocol_id::Error::Empty));
    }

    #[test]
    fn prefixes_of_one_to_256_bytes() {
        let registry = Registry::new();
        let add = |len: usize| registry.add(prefix(&"x".repeat(len)), ServeOptions::default(), ());
        assert_eq!(add(0), Err(ServeError::BadPrefix { len: 0 }));
        assert!(add(1).is_ok());
        assert!(add(256).is_ok());
        assert_eq!(add(257), Err(ServeError::BadPrefix { len: 257 }));
    }

    #[test]
    fn one_thousand_and_twenty_four_and_no_more() {
        let registry = Registry::new();
        let mut ids = Vec::new();
        for n in 0..MAX_SERVED {
            let matcher = match n % 3 {
                0 => exact(&format!("/{n}")),
                1 => prefix(&format!("/{n}")),
                _ => predicate(|_| false),
            };
            ids.push(serve(&registry, matcher, ""));
        }
        let one_more = |matcher| registry.add(matcher, ServeOptions::default(), "");
        assert_eq!(one_more(exact("/more")), Err(ServeError::TooMany));
        assert_eq!(one_more(prefix("/more")), Err(ServeError::TooMany));
        assert_eq!(one_more(predicate(|_| true)), Err(ServeError::TooMany));
        for id in ids {
            assert!(registry.remove(id));
        }
        assert!(registry.advertised().is_empty());
        assert!(one_more(exact("/more")).is_ok());
    }

    #[test]
    fn a_panicking_predicate_leaves_the_registry_as_it_was() {
        let registry = Registry::new();
        let inner = registry.clone();
        // It even changes the registry first: it would wait for ever if it were called under the lock.
        let id = serve(
            &registry,
            predicate(move |name| {
                let _ = inner.add(exact("/from/within"), ServeOptions::default(), "within");
                assert!(name != "/bad");
                true
            }),
            "predicate",
        );
        assert!(catch_unwind(AssertUnwindSafe(|| registry.find("/bad", false))).is_err());
        assert_eq!(found(&registry, "/good"), Some("predicate"));
        assert_eq!(found(&registry, "/from/within"), Some("within"));
        assert!(registry.remove(id));
        assert_eq!(found(&registry, "/good"), None);
    }
}
