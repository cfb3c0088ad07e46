#include "pretrained/hub/xet_store.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <thread>

namespace pretrained::hub {
namespace {

constexpr int64_t kRenewSeconds = 60;  // before a token expires
constexpr int kShardAttempts = 4;

// The last line of the events that a store sends while it verifies.
Json last_event(const std::string& body, const std::string& name) {
  size_t end = body.find_last_not_of(" \r\n");
  if (end == body.npos) throw IntegrityError(name + ": an empty answer to a shard");
  size_t begin = body.rfind('\n', end);
  begin = begin == body.npos ? 0 : begin + 1;
  return Json::parse(body.substr(begin, end + 1 - begin), name + ": answer to a shard");
}

}  // namespace

XetStore::XetStore(const HubClient& client, const Repo& repo, const std::string& revision)
    : client_(client),
      repo_(repo),
      revision_(revision),
      name_(repo.id),
      token_(client.xet_token(repo, "write", revision)) {}

std::string XetStore::token(const std::string& refused) {
  std::lock_guard lock(mutex_);
  if (token_.access_token == refused || token_.expires - std::time(nullptr) < kRenewSeconds)
    token_ = client_.xet_token(repo_, "write", revision_);
  return token_.access_token;
}

std::string XetStore::url(const std::string& path) {
  std::lock_guard lock(mutex_);
  return token_.cas_url + path;
}

HttpResponse XetStore::send(HttpRequest request, const std::string& path,
                            const std::function<void(uint64_t)>& on_sent) {
  request.url = url(path);
  request.send_token = false;
  request.bearer = token("");
  request.progress = [&](uint64_t sent, uint64_t) {
    if (cancelled_) throw Error("cancelled");
    if (on_sent) on_sent(sent);
  };
  auto response = client_.http().send(request);
  if (response.status != 401) return response;
  request.bearer = token(request.bearer);
  return client_.http().send(request);
}

std::optional<xet::Shard> XetStore::find_chunk(const xet::Hash& chunk) {
  std::string path = "/v1/chunks/default-merkledb/" + chunk.hex();
  auto response = send({.method = "GET"}, path);
  if (response.status == 404) return std::nullopt;
  if (response.status != 200) throw_for_status(response, name_ + ": query for a chunk");
  auto shard = xet::parse_shard(response.body);
  bool expired = shard.footer && shard.footer->expires <= uint64_t(std::time(nullptr));
  return expired ? std::nullopt : std::optional(std::move(shard));
}

bool XetStore::has_xorb(const xet::Hash& xorb) {
  return send({.method = "HEAD"}, "/v1/xorbs/default/" + xorb.hex()).status == 200;
}

void XetStore::put_xorb(const xet::Hash& xorb, std::string_view bytes,
                        const std::function<void(uint64_t)>& on_sent) {
  HttpRequest request{.method = "POST", .headers = {{"Content-Type", "application/octet-stream"}}};
  request.body_size = bytes.size();
  request.read_body = [bytes](uint64_t offset, char* buffer, size_t size) {
    return bytes.copy(buffer, size, offset);
  };
  auto response = send(std::move(request), "/v1/xorbs/default/" + xorb.hex(), on_sent);
  if (response.status != 200) throw_for_status(response, name_ + ": storing a xorb");
}

// Whether the shard is registered; false: worth another attempt.
bool XetStore::registered(const HttpResponse& answer, bool last_attempt) {
  const std::string what = name_ + ": registering files";
  if (answer.status != 200) throw_for_status(answer, what);
  Json event = last_event(answer.body, name_);
  if (event.find("result")) return true;
  auto* message = event.find("message");
  auto* text = message ? message->get_if<std::string>() : nullptr;
  auto* flag = event.find("retryable");
  auto* retryable = flag ? flag->get_if<bool>() : nullptr;
  if (retryable && *retryable && !last_attempt) return false;
  throw HubError(what + ": " + (text ? printable(*text, 300) : "the hub broke off"), answer.status);
}

uint64_t XetStore::put_shard(const xet::Shard& shard) {
  const std::string bytes = xet::serialize_shard(shard);
  std::string version = "/v2";
  for (int attempt = 1;; ++attempt) {
    HttpRequest request{.method = "POST",
                        .headers = {{"Content-Type", "application/octet-stream"}}};
    request.body = bytes;
    auto response = send(std::move(request), version + "/shards");
    if (response.status == 404 && version == "/v2") {
      version = "/v1";
      continue;
    }
    if (registered(response, attempt == kShardAttempts)) return bytes.size();
    std::this_thread::sleep_for(std::chrono::seconds(attempt));
  }
}

}  // namespace pretrained::hub
