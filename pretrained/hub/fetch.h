#pragma once
// Bytes of one file of a commit, over plain HTTP.

#include <functional>
#include <string>

#include "pretrained/hub/client.h"
#include "pretrained/hub/part_file.h"

namespace pretrained::hub {

struct Source {
  std::string url;     // …/resolve/<commit>/<path>
  std::string what;    // for messages: "org/name@<commit>: config.json"
  std::string commit;  // 40 digits
  RemoteFile file;
};

struct FetchCallbacks {
  // Bytes as they come, in order; the offset goes back to 0 where a server ignores ranges.
  std::function<void(uint64_t offset, std::string_view bytes)> write;
  std::function<void(uint64_t bytes)> received;  // so many more crossed the network
  // The server ignores ranges and sends the whole file: whether to take it. No: fetch() returns.
  std::function<bool()> take_whole;
  std::function<void()> check;  // throws to stop
};

// A connection that breaks off is taken up where it broke. Throws IntegrityError where commit,
// etag, range or length are not those of the file; whether the bytes are, the caller finds out.
void fetch(HttpClient& http, const Source& source, Range range, const FetchCallbacks& callbacks);

}  // namespace pretrained::hub
