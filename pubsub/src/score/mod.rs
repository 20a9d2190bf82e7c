//! What a peer is worth to the mesh.
