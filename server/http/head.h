#pragma once
// From the bytes of a request head to a Request: the grammar, how the body is framed, and who the
// client is and how it reaches us. Strict on purpose: what two servers could read differently
// (request smuggling) is refused. No sockets.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/http.h"

namespace pretrained::server {

// "10.0.0.0/8", "::1", "192.0.2.7". IPv4 and its IPv6-mapped form are the same.
class Network {
 public:
  explicit Network(const std::string& text);  // ArgumentError
  bool contains(const std::string& address) const;

 private:
  std::array<uint8_t, 16> address_;
  int bits_;
};

// The other end of a connection, and what is configured about it.
struct Peer {
  std::string address;        // the client's end, without port
  std::string local_address;  // "127.0.0.1:8080": our end, for HTTP/1.0 clients without Host
  bool encrypted = false;
};
struct Place {
  std::string external_url;  // what clients are told; empty: what they used
  std::vector<Network> trusted_proxies;
  // Names that clients may use for us besides addresses and "localhost"; none: any.
  std::optional<std::vector<std::string>> hosts;
};

struct Head {
  Request request;
  bool http_1_0 = false;
  bool keep_alive = false;
  bool expects_continue = false;
  bool chunked = false;
  uint64_t length = 0;  // of the body; 0 where chunked
};

// Reads one whole head, "GET / HTTP/1.1\r\n…\r\n\r\n". HttpError 400, 417 (other expectations), 421
// (a host that is not ours), 501 (transfer codings other than chunked), 505; `head` then holds what was read before.
void parse_head(std::string_view text, const Peer& peer, const Place& place, Head& head);

std::string new_request_id();

}  // namespace pretrained::server
