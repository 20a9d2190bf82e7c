//! Publish and subscribe: gossipsub and floodsub.

pub mod score;
