//! What public_api.py has to find, each marked with the name it is found by, and what it must not find: `Clean`.

pub fn in_return() -> Option<actix::Addr> { None } // planted: in_return
pub fn in_argument(_: &[actix::Addr]) {} // planted: in_argument
pub fn in_impl_argument(_: impl actix::Actor) {} // planted: in_impl_argument
pub fn in_dyn(_: Box<dyn actix::Actor>) {} // planted: in_dyn
pub fn in_where<T>() where T: Into<actix::Addr> {} // planted: in_where
pub fn in_callback(_: fn(actix::Addr)) {} // planted: in_callback
pub async fn in_future() -> actix::Addr { actix::Addr } // planted: in_future
#[doc(hidden)]
pub fn hidden_from_docs() -> actix::Addr { actix::Addr } // planted: hidden_from_docs

pub struct Plain { pub in_field: actix::Addr } // planted: in_field
pub struct InTuple(pub u8, pub actix::Addr); // planted: InTuple
pub struct InBound<T: actix::Actor>(T); // planted: InBound
pub enum Choice { InVariant(actix::Addr) } // planted: InVariant
pub enum OtherChoice { Named { in_variant_field: actix::Addr } } // planted: in_variant_field
pub union Either { pub in_union: std::mem::ManuallyDrop<actix::Addr> } // planted: in_union
pub type InAlias = Vec<actix::Addr>; // planted: InAlias
pub static IN_STATIC: Option<actix::Addr> = None; // planted: IN_STATIC
pub const IN_CONST: Option<actix::Addr> = None; // planted: IN_CONST
pub trait InSupertrait: actix::Actor {} // planted: InSupertrait
pub trait Tied { type InAssociated: actix::Actor; } // planted: InAssociated

pub struct Implementor; // planted: Implementor
impl actix::Actor for Implementor {}
pub struct Converted; // planted: Converted
impl From<actix::Addr> for Converted { fn from(_: actix::Addr) -> Self { Self } }
pub struct Iterating; // planted: Iterating
impl Iterator for Iterating { type Item = actix::Addr; fn next(&mut self) -> Option<actix::Addr> { None } }
pub trait OfForeign {} // planted: OfForeign
impl OfForeign for actix::Addr {}

pub use actix::Addr; // planted: use actix::Addr
pub mod all_of_it { pub use actix::*; } // planted: all_of_it
pub use private::Renamed; // planted: method_of_reexported
pub fn gives_unnameable() -> private::Unnameable { private::Unnameable }

mod private {
    pub struct Renamed;
    impl Renamed { pub fn method_of_reexported(&self) -> actix::Addr { actix::Addr } }
    pub struct Unnameable;
    impl Unnameable { pub fn method_of_unnameable(&self) -> actix::Addr { actix::Addr } } // planted: method_of_unnameable
    pub fn clean_unreachable() -> actix::Addr { actix::Addr }
    pub(crate) trait CleanTrait { fn clean_seen(&self, _: actix::Addr) {} }
    impl CleanTrait for super::Clean {}
}

pub struct Clean { clean_private: actix::Addr }
impl Clean {
    pub(crate) fn clean_for_crate(&self) -> actix::Addr { actix::Addr }
    fn clean_own(&self) -> actix::Addr { actix::Addr }
    pub fn clean_inside(&self) { let _: (actix::Addr, actix::Addr) = (self.clean_for_crate(), self.clean_own()); }
}
impl actix_free::Local for Clean {}
mod actix_free { pub trait Local {} }
