#include "server/api/xet.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>

#include "server/api/changes.h"

namespace pretrained::server {
namespace {

constexpr uint64_t kXorbLimit = 68 << 20, kShardLimit = 64 << 20;
constexpr size_t kBatchTerms = 200'000;
constexpr int64_t kFetchSeconds = 3600;
// hf_xet gives up an upload at 401, so what began in time may end a little later.
constexpr int64_t kGraceSeconds = 900;

// ---- tokens -------------------------------------------------------------------------------------

std::vector<std::string> token_parts(std::string_view scope, std::string_view holder) {
  return {"xet", std::string(scope), std::string(holder)};
}

Response token_response(Call& call) {
  bool write = call.captures.at("kind") == "xet-write-token";
  const std::string& revision = call.captures.at("revision");
  bool create_pr = call.request.flag("create_pr");
  Repo repo = write ? require_writable(call, revision, create_pr) : require_repo(call, Role::read);
  // "None": the reference of a pull request that is yet to be opened.
  if (write && !(create_pr && revision == "None")) require_branch(call, repo, revision);
  if (!write && revision != "None") require_revision(call, repo, revision);
  XetToken token = make_xet_token(call, repo, write ? XetScope::write : XetScope::read);
  Response response = json_response(Json::Object{
      {"accessToken", token.token}, {"exp", token.expires}, {"casUrl", token.cas_url}});
  response.headers.set("X-Xet-Access-Token", token.token);
  response.headers.set("X-Xet-Token-Expiration", std::to_string(token.expires));
  response.headers.set("X-Xet-Cas-Url", token.cas_url);
  response.headers.set("Cache-Control", "no-store");
  return response;
}

// "xet_w.repo.user.token.expires.signature"
struct TokenText {
  std::string_view scope, holder, expires, signature;
};

std::optional<TokenText> split_token(std::string_view text) {
  if (!text.starts_with("xet_") || std::count(text.begin(), text.end(), '.') != 5)
    return std::nullopt;
  auto cut = [&](size_t dot) {  // off the end
    std::string_view part = text.substr(dot + 1);
    text = text.substr(0, dot);
    return part;
  };
  TokenText token;
  token.signature = cut(text.rfind('.'));
  token.expires = cut(text.rfind('.'));
  token.holder = cut(text.find('.'));
  token.scope = text.substr(4);
  return token;
}

// Whom the request's Xet token was given to: 401 where it is none of ours or expired, 403 where it
// does not allow this, or no longer.
Held require_cas(Call& call, XetScope scope) {
  auto refuse = [] {
    Headers headers;
    headers.set("WWW-Authenticate", "Bearer realm=\"pretrained-hub xet\"");
    return HttpError(401, "", "The Xet token is not valid, or has expired", headers);
  };
  std::string_view header = call.request.headers.get("Authorization");
  if (!header.starts_with("Bearer ")) throw refuse();
  auto token = split_token(header.substr(7));
  if (!token) throw refuse();
  auto holder = Holder::parse(token->holder);
  auto expires = read_number(token->expires);
  if (!holder || !expires || *expires > INT64_MAX / 2 ||
      !verify_signature(call.services, token_parts(token->scope, token->holder),
                        *expires + kGraceSeconds, std::string(token->signature)))
    throw refuse();
  bool write = scope == XetScope::write;
  if (write && token->scope != "w") throw HttpError(403, "", "The Xet token is for reading only");
  return require_holder(call.services, *holder, write);
}

// May the caller read that repository? One answer a repository, looked up when first asked.
std::function<bool(int64_t)> readable(Services& services, const Caller& caller) {
  auto known = std::make_shared<std::map<int64_t, bool>>();
  return [&services, caller, known](int64_t id) {
    auto found = known->find(id);
    if (found != known->end()) return found->second;
    auto repo = services.repos.find(id);
    bool answer = repo && role_on(caller, repo->access,
                                  services.repos.access_granted(*repo, caller)) >= Role::read;
    known->emplace(id, answer);
    return answer;
  };
}

xet::Hash hash_capture(Call& call, const std::string& name = "hash") {
  auto hash = xet::Hash::parse(call.captures.at(name));
  if (!hash) throw HttpError(400, "", "expected a hash of 64 hexadecimal digits");
  return *hash;
}

// ---- uploads ------------------------------------------------------------------------------------

std::optional<int64_t> user_of(const Held& cas) {
  return cas.caller.user ? std::optional(cas.caller.user->id) : std::nullopt;
}

Response query_chunk(Call& call) {
  Held cas = require_cas(call, XetScope::write);
  auto shard = call.services.content.query_chunk(cas.repo.access.id, hash_capture(call),
                                                 readable(call.services, cas.caller));
  if (!shard) throw HttpError(404, "", "not found");
  Response response;
  response.headers.set("Content-Type", "application/octet-stream");
  response.body = std::move(*shard);
  return response;
}

Response put_xorb(Call& call) {
  Held cas = require_cas(call, XetScope::write);
  Body& body = *call.request.body;
  if (body.length().value_or(0) > kXorbLimit)
    throw HttpError(413, "", "a xorb has at most " + std::to_string(kXorbLimit) + " bytes");
  bool inserted = call.services.content.put_xorb(
      cas.repo.access.id, hash_capture(call),
      [&](char* data, size_t n) { return body.read(data, n); }, user_of(cas));
  return json_response(Json::Object{{"was_inserted", inserted}});
}

Response put_shard(Call& call) {
  Held cas = require_cas(call, XetScope::write);
  std::string shard = call.request.read_body(kShardLimit);
  bool inserted = call.services.content.put_shard(
      cas.repo.access.id, shard, {}, readable(call.services, cas.caller), user_of(cas));
  return json_response(Json::Object{{"result", inserted ? 1 : 0}});
}

void write_event(Sink& sink, const Json& event) { sink.write(event.dump(0) + "\n"); }

// The status is sent before the work is done: progress keeps the client waiting, and a last line
// says how it went.
void register_shard(Services& services, const Held& cas, const std::string& shard, Sink& sink) {
  using Clock = std::chrono::steady_clock;
  auto last = Clock::now();
  auto progress = [&](uint64_t verified, uint64_t total) {
    if (Clock::now() - last < std::chrono::seconds(1)) return;
    last = Clock::now();
    write_event(sink, Json::Object{{"type", "validating"},
                                   {"verified", int64_t(verified)},
                                   {"total", int64_t(total)}});
  };
  auto fail = [&](const std::string& message, bool retryable) {
    write_event(sink,
                Json::Object{{"type", "error"}, {"message", message}, {"retryable", retryable}});
  };
  write_event(sink, Json::Object{{"type", "validating"}, {"verified", 0}, {"total", 1}});
  try {
    bool inserted = services.content.put_shard(cas.repo.access.id, shard, progress,
                                               readable(services, cas.caller), user_of(cas));
    write_event(sink, Json::Object{{"type", "committing"}, {"stage", "syncing"}});
    write_event(sink, Json::Object{{"type", "result"}, {"result", inserted ? 1 : 0}});
  } catch (const ConnectionLost&) {
    throw;
  } catch (const FormatError& e) {
    fail(e.what(), false);
  } catch (const DiskFull& e) {
    fail(e.what(), false);
  } catch (const std::exception& e) {
    ++services.counters->internal_errors;
    std::fprintf(stderr, "error shard of %s: %s\n", cas.repo.full_name().c_str(),
                 printable(e.what(), 2000).c_str());
    fail("Internal error", true);
  }
}

Response put_shard_stream(Call& call) {
  Held cas = require_cas(call, XetScope::write);
  auto shard = std::make_shared<std::string>(call.request.read_body(kShardLimit));
  Response response;
  response.headers.set("Content-Type", "application/x-ndjson");
  response.headers.set("Cache-Control", "no-cache");
  Services& services = call.services;
  Stream stream;
  stream.produce = [&services, cas, shard](Sink& sink) {
    register_shard(services, cas, *shard, sink);
  };
  response.body = std::move(stream);
  return response;
}

// ---- downloads ----------------------------------------------------------------------------------

// Chunks and bytes of one xorb that may be fetched in one go.
struct Fetch {
  uint32_t first_chunk, end_chunk;
  uint64_t first_byte, last_byte;
};

// What to fetch of each xorb: parts that touch or overlap are one.
std::map<xet::Hash, std::vector<Fetch>> fetches_of(const Reconstruction& file) {
  std::map<xet::Hash, std::vector<Fetch>> result;
  for (const auto& part : file.parts)
    result[part.term.xorb].push_back(
        {part.term.first_chunk, part.term.end_chunk, part.first_byte, part.last_byte});
  for (auto& [xorb, list] : result) {
    std::sort(list.begin(), list.end(),
              [](const Fetch& a, const Fetch& b) { return a.first_chunk < b.first_chunk; });
    std::vector<Fetch> merged;
    for (const auto& fetch : list) {
      if (merged.empty() || fetch.first_chunk > merged.back().end_chunk) {
        merged.push_back(fetch);
        continue;
      }
      merged.back().end_chunk = std::max(merged.back().end_chunk, fetch.end_chunk);
      merged.back().last_byte = std::max(merged.back().last_byte, fetch.last_byte);
    }
    list = std::move(merged);
  }
  return result;
}

Json span_json(uint64_t start, uint64_t end) {
  return Json::Object{{"start", int64_t(start)}, {"end", int64_t(end)}};
}

// An address is good for its bytes alone: the rest of the xorb may be somebody else's.
std::string fetch_url(Call& call, const Held& cas, const xet::Hash& xorb, const Fetch& fetch) {
  std::string path = "/xet/fetch/" + xorb.hex() + "/" + std::to_string(fetch.first_byte) + "/" +
                     std::to_string(fetch.last_byte);
  return signed_url(call, cas.caller, cas.repo, "xet-fetch", path, kFetchSeconds);
}

Json terms_json(const Reconstruction& file) {
  Json::Array terms;
  for (const auto& part : file.parts)
    terms.push_back(Json::Object{{"hash", part.term.xorb.hex()},
                                 {"unpacked_length", int64_t(part.term.raw_length)},
                                 {"range", span_json(part.term.first_chunk, part.term.end_chunk)}});
  return terms;
}

Json fetch_info_v1(Call& call, const Held& cas, const Reconstruction& file) {
  Json::Object info;
  for (const auto& [xorb, list] : fetches_of(file)) {
    Json::Array items;
    for (const auto& fetch : list)
      items.push_back(Json::Object{{"range", span_json(fetch.first_chunk, fetch.end_chunk)},
                                   {"url", fetch_url(call, cas, xorb, fetch)},
                                   {"url_range", span_json(fetch.first_byte, fetch.last_byte)}});
    info[xorb.hex()] = std::move(items);
  }
  return info;
}

Json xorbs_v2(Call& call, const Held& cas, const Reconstruction& file) {
  Json::Object xorbs;
  for (const auto& [xorb, list] : fetches_of(file)) {
    Json::Array items;
    for (const auto& fetch : list) {
      Json range = Json::Object{{"chunks", span_json(fetch.first_chunk, fetch.end_chunk)},
                                {"bytes", span_json(fetch.first_byte, fetch.last_byte)}};
      items.push_back(Json::Object{{"url", fetch_url(call, cas, xorb, fetch)},
                                   {"ranges", Json::Array{std::move(range)}}});
    }
    xorbs[xorb.hex()] = std::move(items);
  }
  return xorbs;
}

// As "Range" asks; 416 where that lies outside.
Reconstruction require_reconstruction(Call& call, const Held& cas) {
  xet::Hash file = hash_capture(call);
  if (file.is_zero()) return {};
  auto& content = call.services.content;
  auto found = content.reconstruct(cas.repo.access.id, file, 0, 0);
  if (!found) throw HttpError(404, "", "The repository has no such file");
  ByteRange range{0, found->file_size ? found->file_size - 1 : 0};
  if (auto asked = parse_range(call.request.headers.get("Range"), found->file_size)) range = *asked;
  found = content.reconstruct(cas.repo.access.id, file, range.first, range.last);
  if (!found) throw HttpError(404, "", "The repository has no such file");
  return std::move(*found);
}

Response reconstruction(Call& call) {
  Held cas = require_cas(call, XetScope::read);
  Reconstruction file = require_reconstruction(call, cas);
  Json::Object answer{{"offset_into_first_range", int64_t(file.offset_into_first_range)},
                      {"terms", terms_json(file)}};
  if (call.captures.at("version") == "v1")
    answer["fetch_info"] = fetch_info_v1(call, cas, file);
  else
    answer["xorbs"] = xorbs_v2(call, cas, file);
  return json_response(std::move(answer));
}

// [{"prefix": "default", "hash": …}] → the terms of each file, and what to fetch for all of them.
Response reconstructions(Call& call) {
  Held cas = require_cas(call, XetScope::read);
  Json body = parse_json(call.request.read_body(), "request body");
  const auto* keys = body.get_if<Json::Array>();
  constexpr size_t limit = 1000;
  if (!keys || keys->size() > limit)
    throw HttpError(400, "", "expected a list of at most " + std::to_string(limit) + " files");
  Json::Object files;
  Reconstruction all;
  for (const auto& key : *keys) {
    std::string name = string_field(key, "hash");
    auto hash = xet::Hash::parse(name);
    if (!hash) throw HttpError(400, "", "expected a hash of 64 hexadecimal digits");
    if (files.contains(hash->hex())) continue;
    auto file = call.services.content.reconstruct(cas.repo.access.id, *hash, 0, UINT64_MAX);
    if (!file) continue;
    if (all.parts.size() + file->parts.size() > kBatchTerms)
      throw HttpError(413, "", "these files have too many parts; ask for fewer at once");
    files[hash->hex()] = terms_json(*file);
    all.parts.insert(all.parts.end(), file->parts.begin(), file->parts.end());
  }
  return json_response(
      Json::Object{{"files", std::move(files)}, {"fetch_info", fetch_info_v1(call, cas, all)}});
}

Response file_head(Call& call) {
  Held cas = require_cas(call, XetScope::read);
  auto found = call.services.content.reconstruct(cas.repo.access.id, hash_capture(call), 0, 0);
  if (!found || call.request.method != "HEAD") throw HttpError(404, "", "not found");
  Response response;
  response.headers.set("Content-Type", "application/octet-stream");
  response.headers.set("Content-Length", std::to_string(found->file_size));
  return response;
}

Response xorb_head(Call& call) {
  Held cas = require_cas(call, XetScope::read);
  xet::Hash hash = hash_capture(call);
  auto size = call.services.database.read([&](Transaction& t) {
    Bytes key{std::string(hash.bytes.begin(), hash.bytes.end())};
    return t.one(
        "SELECT x.bytes FROM xorbs x JOIN xorb_access a ON a.xorb = x.hash"
        " WHERE x.hash = ? AND a.repo = ?",
        key, cas.repo.access.id);
  });
  if (!size || call.request.method != "HEAD") throw HttpError(404, "", "not found");
  Response response;
  response.headers.set("Content-Type", "application/octet-stream");
  response.headers.set("Content-Length", std::to_string(size->integer(0)));
  return response;
}

// Raw bytes of a xorb, for whoever has the address.
Response fetch(Call& call) {
  require_signature(call, "xet-fetch");
  auto xorb = call.services.content.open_xorb(hash_capture(call));
  if (!xorb) throw HttpError(404, "", "not found");
  uint64_t first = number_capture(call, "first"), last = number_capture(call, "last");
  ByteRange range{first, std::min(last, xorb->size - 1)};
  if (auto asked = parse_range(call.request.headers.get("Range"), xorb->size)) range = *asked;
  if (range.first < first || range.last > last)
    throw HttpError(403, "",
                    "This address is good for the bytes " + std::to_string(first) + " to " +
                        std::to_string(last));
  Response response;
  response.status = 206;
  response.headers.set("Content-Type", "application/octet-stream");
  response.headers.set("Accept-Ranges", "bytes");
  response.headers.set("Content-Range", "bytes " + std::to_string(range.first) + "-" +
                                            std::to_string(range.last) + "/" +
                                            std::to_string(xorb->size));
  auto file = std::make_shared<FileDescriptor>(std::move(xorb->file));
  Stream stream;
  stream.length = range.last - range.first + 1;
  stream.produce = [file, range](Sink& sink) {
    sink.send_file(file->get(), range.first, range.last - range.first + 1);
  };
  response.body = std::move(stream);
  return response;
}

}  // namespace

XetToken make_xet_token(const Call& call, const Repo& repo, XetScope scope) {
  std::string_view letter = scope == XetScope::write ? "w" : "r";
  std::string holder = Holder(call.caller, repo).text();
  XetToken result;
  result.cas_url = call.request.base_url + "/xet";
  result.expires = now_ms() / 1000 + call.services.options.xet_token_seconds;
  result.token = "xet_" + std::string(letter) + "." + holder + "." +
                 std::to_string(result.expires) + "." +
                 sign(call.services, token_parts(letter, holder), result.expires + kGraceSeconds);
  return result;
}

std::vector<Route<ApiHandler>> xet_routes() {
  return {
      {"GET", kRepoPattern + "/{kind:xet-read-token|xet-write-token}/{revision}", token_response},
      {"GET", "/xet/v1/chunks/{prefix}/{hash}", query_chunk},
      {"POST", "/xet/v1/xorbs/{prefix}/{hash}", put_xorb},
      {"GET", "/xet/v1/xorbs/{prefix}/{hash}", xorb_head},
      {"POST", "/xet/v1/shards", put_shard},
      {"POST", "/xet/v2/shards", put_shard_stream},
      {"GET", "/xet/{version:v1|v2}/reconstructions/{hash}", reconstruction},
      {"POST", "/xet/v1/reconstructions", reconstructions},
      {"GET", "/xet/v1/files/{hash}", file_head},
      {"GET", "/xet/fetch/{hash}/{first}/{last}", fetch},
  };
}

}  // namespace pretrained::server
