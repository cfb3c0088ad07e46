#pragma once
// From Request to Response: who calls, which route, may they, the handler, and the one place where
// exceptions become answers. Needs no socket: tests and fuzzers call App::handle.

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/accounts/accounts.h"
#include "server/cas/content_store.h"
#include "server/git/git_store.h"
#include "server/http/http.h"
#include "server/http/router.h"
#include "server/repos/repos.h"

namespace pretrained::server {

struct AppOptions {
  Role anonymous = Role::read;  // what nobody may do: none, read, write
  int64_t rate_limit = 5000;    // requests per window and caller; 0: no limit
  int64_t rate_window_seconds = 300;
  uint64_t commit_body_limit = uint64_t{3} << 30;
  int64_t commit_operations_limit = 25'000;
  uint64_t lfs_part_bytes = 0;  // > 0: LFS offers multipart with parts of this size
  int64_t xet_token_seconds = 3600;
};

// What App::handle counts, for /metrics.
struct Counters {
  std::array<std::atomic<uint64_t>, 6> answers{};  // by status / 100
  std::atomic<uint64_t> active{0}, limited{0}, bad_credentials{0}, internal_errors{0};
  int64_t started_at = now_ms();
};

// Everything a handler may use. One for the whole process; all of it is thread-safe.
struct Services {
  Database& database;
  BlobStore& blobs;
  Accounts& accounts;
  GitStore& git;
  ContentStore& content;
  Repos& repos;
  AppOptions options;
  std::string signing_key;  // 32 bytes, from the database: Xet tokens and signed addresses
  std::shared_ptr<Counters> counters = std::make_shared<Counters>();
};

// One call of a handler.
struct Call {
  Request& request;
  const Captures& captures;
  const Caller& caller;
  Services& services;
};
using ApiHandler = Response (*)(Call&);

// The route tables, one per file of this room, and all of them in the order in which they are
// tried.
std::vector<Route<ApiHandler>> account_routes();  // whoami, OAuth device flow, approval page
std::vector<Route<ApiHandler>> repo_routes();     // create, delete, move, settings, lists
std::vector<Route<ApiHandler>> info_routes();     // info, tree, paths-info
std::vector<Route<ApiHandler>> history_routes();  // commits, refs, branches, tags, squash, compare
std::vector<Route<ApiHandler>> upload_routes();   // preupload, commit
std::vector<Route<ApiHandler>> lfs_routes();      // batch, objects, multipart, verify, locks
std::vector<Route<ApiHandler>> xet_routes();      // tokens and the CAS
std::vector<Route<ApiHandler>> resolve_routes();  // resolve, raw
std::vector<Route<ApiHandler>> discussion_routes();  // discussions and pull requests
std::vector<Route<ApiHandler>> attachment_routes();  // pictures for them
std::vector<Route<ApiHandler>> social_routes();      // likes, access requests, users
std::vector<Route<ApiHandler>> webhook_routes();     // webhooks
std::vector<Route<ApiHandler>> misc_routes();        // validate-yaml, healthz, metrics, telemetry
std::vector<Route<ApiHandler>> git_routes();         // smart HTTP
std::vector<Route<ApiHandler>> all_routes();

// Who calls is known from "Authorization: Bearer <token>" or Basic with the token as password and
// any user name. Paths that begin with "v1", "v2", "cas" or "xet" carry tokens of their own
// (protocol of Xet): there the handler checks, and the caller is nobody.
class App {
 public:
  explicit App(Services services);
  ~App();
  // Never throws but ConnectionLost.
  Response handle(Request& request);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pretrained::server
