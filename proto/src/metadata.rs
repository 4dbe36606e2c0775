//! Names of request metadata (HTTP/2 headers) that carry meaning.

/// The token that `Authenticate` returned.
pub const TOKEN: &str = "token";

/// The same token for HTTP clients, with or without a leading `Bearer `.
pub const AUTHORIZATION: &str = "authorization";

/// Optional start of a token, removed before it is looked up; exactly so spelled.
pub const BEARER_PREFIX: &str = "Bearer ";

/// A request or stream that wants to fail rather than be served by a member that knows of no leader.
pub const HAS_LEADER: &str = "hasleader";

/// The value of [`HAS_LEADER`] that counts.
pub const HAS_LEADER_TRUE: &str = "true";

/// Version of the client's API, for statistics; must be valid UTF-8.
pub const CLIENT_API_VERSION: &str = "client-api-version";

/// Present when the request came through the JSON gateway: the client certificate is then the gateway's.
pub const GATEWAY_ACCEPT: &str = "grpcgateway-accept";
