//! Benches of ketch and the load generator.
