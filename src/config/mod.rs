//! Everything about the YAML: its types, reading it and the files it names, problems with their places, and what
//! differs between two documents. All configuration I/O is here; nothing here knows a request or a socket.

pub mod schema;
pub mod values;
