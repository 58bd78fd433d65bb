// Limits of every gRPC connection. A message is small: payload travels in chunks.
import { type ChannelOptions, logVerbosity, setLogVerbosity } from "@grpc/grpc-js";

// grpc-js writes its own lines to stderr; what matters reaches our callers as errors.
setLogVerbosity(logVerbosity.NONE);

/** Largest message, either way: a job's, with its source manifest and its command line. */
export const MESSAGE_SIZE_BYTES_MAX = 8 * 1024 * 1024;
/** Calls that one connection may have open on a server. */
export const CONCURRENT_STREAMS_MAX = 256;
/** Memory that Node's HTTP/2 lets one server session hold, in megabytes. */
export const SESSION_MEMORY_MB = 64;
/** HTTP/2 flow-control window; large enough for 100 MB/s at 10 ms. */
export const FLOW_CONTROL_WINDOW_BYTES = 1024 * 1024;
/** A connection without traffic is probed after this time. */
export const KEEPALIVE_TIME_MS = 20_000;
/** A probe without answer for this time ends the connection. */
export const KEEPALIVE_TIMEOUT_MS = 10_000;
/** Longest wait of a unary call whose caller names none. */
export const UNARY_TIMEOUT_MS = 10_000;
/** Longest pause between two attempts to connect. */
export const RECONNECT_BACKOFF_MS_MAX = 5_000;
/** First pause between two attempts to connect. */
export const RECONNECT_BACKOFF_MS = 200;

const COMMON: ChannelOptions = {
  "grpc.max_receive_message_length": MESSAGE_SIZE_BYTES_MAX,
  "grpc.max_send_message_length": MESSAGE_SIZE_BYTES_MAX,
  "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc-node.flow_control_window": FLOW_CONTROL_WINDOW_BYTES,
  "grpc.enable_channelz": 0,
};

export const SERVER_OPTIONS: ChannelOptions = {
  ...COMMON,
  "grpc.max_concurrent_streams": CONCURRENT_STREAMS_MAX,
  "grpc-node.max_session_memory": SESSION_MEMORY_MB,
};

export const CLIENT_OPTIONS: ChannelOptions = {
  ...COMMON,
  "grpc.keepalive_permit_without_calls": 0,
  "grpc.initial_reconnect_backoff_ms": RECONNECT_BACKOFF_MS,
  "grpc.max_reconnect_backoff_ms": RECONNECT_BACKOFF_MS_MAX,
  // Retries, proxies, look-ups of service configuration and shared connections would act behind the caller's back.
  "grpc.enable_retries": 0,
  "grpc.enable_http_proxy": 0,
  "grpc.service_config_disable_resolution": 1,
  "grpc.use_local_subchannel_pool": 1,
};
