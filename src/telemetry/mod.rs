//! The one exit of what Weir knows: live cells, metric families, access log. Only this room touches metric families.

pub mod vitals;
