#include <algorithm>
#include <map>
#include <set>

#include "server/api/changes.h"
#include "server/api/commit_reader.h"
#include "server/api/locks.h"
#include "server/api/serve.h"
#include "server/api/xet.h"

namespace pretrained::server {
namespace {

constexpr int64_t kAddressSeconds = 12 * 3600;  // a long queue of uploads
constexpr size_t kObjectsLimit = 1000;
constexpr uint64_t kPartsLimit = 10'000, kBatchPartsLimit = 20'000;

Response lfs_response(const Json& value, int status = 200) {
  Response response = json_response(value, status);
  response.headers.set("Content-Type", "application/vnd.git-lfs+json");
  return response;
}

// ---- batch --------------------------------------------------------------------------------------

struct Batch {
  bool upload = false;
  std::optional<std::string> ref;
  std::set<std::string> transfers;
  std::vector<LfsPointer> objects;
};

Batch read_batch(Call& call) {
  Json body = read_json(call);
  Batch batch;
  std::string operation = string_field(body, "operation");
  batch.upload = operation == "upload";
  if (!batch.upload && operation != "download")
    throw HttpError(422, "", "operation: expected upload or download");
  if (const Json* ref = body.find("ref"); ref && !ref->is_null())
    batch.ref = string_field(*ref, "name");
  if (const Json* transfers = body.find("transfers"))
    if (const auto* list = transfers->get_if<Json::Array>())
      for (const auto& name : *list)
        if (const auto* text = name.get_if<std::string>()) batch.transfers.insert(*text);
  const Json* objects = body.find("objects");
  const auto* list = objects ? objects->get_if<Json::Array>() : nullptr;
  if (!list) throw HttpError(422, "", "field 'objects': expected a list");
  if (list->size() > kObjectsLimit)
    throw HttpError(413, "", "objects: at most " + std::to_string(kObjectsLimit) + " in one batch");
  for (const auto& item : *list) {
    LfsPointer object{string_field(item, "oid"), 0};
    const Json* size = item.find("size");
    const int64_t* number = size ? size->get_if<int64_t>() : nullptr;
    if (!is_hex(object.sha256, 64) || !number || *number < 0)
      throw HttpError(422, "",
                      "objects: expected SHA-256 and size, got '" + printable(object.sha256) + "'");
    object.size = uint64_t(*number);
    batch.objects.push_back(std::move(object));
  }
  return batch;
}

Json::Object object_json(const LfsPointer& object) {
  return {{"oid", object.sha256}, {"size", int64_t(object.size)}};
}

Json::Object object_error(const LfsPointer& object, int code, const std::string& message) {
  Json::Object item = object_json(object);
  item["error"] = Json::Object{{"code", code}, {"message", message}};
  return item;
}

std::string repo_path(const char* kind, const Repo& repo) {
  return "/api/lfs/" + std::string(kind) + "/" + std::to_string(repo.access.id);
}

std::string url(Call& call, const Repo& repo, const char* purpose, const std::string& path) {
  return signed_url(call, call.caller, repo, purpose, path, kAddressSeconds);
}

Json address(Call& call, const Repo& repo, const char* purpose, const std::string& path) {
  return Json::Object{{"href", url(call, repo, purpose, path)}, {"expires_in", kAddressSeconds}};
}

Json::Object basic_upload(Call& call, const Repo& repo, const LfsPointer& object) {
  std::string path =
      repo_path("objects", repo) + "/" + object.sha256 + "/" + std::to_string(object.size);
  return {{"upload", address(call, repo, "lfs-put", path)},
          {"verify", address(call, repo, "lfs-verify", repo_path("verify", repo))}};
}

Json::Object multipart_upload(Call& call, const Repo& repo, const LfsPointer& object) {
  uint64_t part = call.services.options.lfs_part_bytes;
  part = std::max(part, (object.size + kPartsLimit - 1) / kPartsLimit);
  uint64_t parts = (object.size + part - 1) / part;
  std::string upload =
      call.services.content.start_multipart(repo.access.id, object.sha256, object.size, part);
  std::string path = "/api/lfs/multipart/" + percent_encode(upload);
  Json::Object header{{"chunk_size", std::to_string(part)}};
  for (uint64_t i = 1; i <= parts; ++i) {
    std::string number = std::to_string(i);
    std::string key = std::string(5 - std::min<size_t>(5, number.size()), '0') + number;
    header[key] = url(call, repo, "lfs-part", path + "/" + number);
  }
  return {{"upload", Json::Object{{"href", url(call, repo, "lfs-complete", path)},
                                  {"header", std::move(header)},
                                  {"expires_in", kAddressSeconds}}},
          {"verify", address(call, repo, "lfs-verify", repo_path("verify", repo))}};
}

Json::Object xet_upload(Call& call, const Repo& repo, const Batch& batch) {
  std::string revision = batch.ref.value_or("main");
  XetToken token = make_xet_token(call, repo, XetScope::write);
  return {{"upload",
           Json::Object{
               {"href", call.request.base_url + "/api/" + type_segment(repo.access.type) + "/" +
                            repo.full_name() + "/xet-write-token/" + percent_encode(revision)},
               {"header", Json::Object{{"X-Xet-Cas-Url", token.cas_url},
                                       {"X-Xet-Access-Token", token.token},
                                       {"X-Xet-Token-Expiration", std::to_string(token.expires)},
                                       {"X-Xet-Session-Id", random_hex(32)}}}}}};
}

Json::Object upload_item(Call& call, const Repo& repo, const Batch& batch, const LfsPointer& object,
                         const std::string& transfer) {
  auto known = call.services.content.object(repo.access.id, object.sha256);
  if (known && known->size != object.size)
    return object_error(object, 422,
                        "the object has " + std::to_string(known->size) + " bytes, not " +
                            std::to_string(object.size));
  Json::Object item = object_json(object);
  if (known && call.services.content.touch(repo.access.id, object.sha256)) return item;
  item["authenticated"] = true;
  if (transfer == "xet")
    item["actions"] = xet_upload(call, repo, batch);
  else if (transfer == "multipart" && object.size > 0)
    item["actions"] = multipart_upload(call, repo, object);
  else
    item["actions"] = basic_upload(call, repo, object);
  return item;
}

Json::Object download_item(Call& call, const Repo& repo, const LfsPointer& object) {
  auto known = call.services.content.object(repo.access.id, object.sha256);
  if (!known) return object_error(object, 404, "the object is not in this repository");
  Json::Object item = object_json({object.sha256, known->size});
  item["authenticated"] = true;
  std::string path =
      repo_path("objects", repo) + "/" + object.sha256 + "/" + std::to_string(known->size);
  item["actions"] = Json::Object{{"download", address(call, repo, "lfs-get", path)}};
  return item;
}

Repo lfs_repo(Call& call, const std::function<Repo()>& find) {
  try {
    return find();
  } catch (const HttpError& e) {
    challenge(call, e);
    throw;
  }
}

std::string transfer_of(Call& call, const Batch& batch) {
  if (batch.upload && batch.transfers.contains("xet")) return "xet";
  uint64_t part = call.services.options.lfs_part_bytes;
  bool large = std::any_of(batch.objects.begin(), batch.objects.end(),
                           [&](const LfsPointer& object) { return object.size > part; });
  bool multipart = batch.upload && part > 0 && large && batch.transfers.contains("multipart");
  uint64_t parts = 0;
  for (const auto& object : batch.objects)
    if (multipart) parts += std::min(object.size / part + 1, kPartsLimit);
  if (parts > kBatchPartsLimit)
    throw HttpError(413, "", "objects: too many parts in one batch; ask for fewer at once");
  return multipart ? "multipart" : "basic";
}

Response batch(Call& call) {
  // Who may not even read learns nothing from what is wrong with the body.
  Repo repo = lfs_repo(call, [&] { return require_repo(call, Role::read); });
  Batch batch = read_batch(call);
  // Python names no reference for the files of a pull request that it is about to open.
  if (batch.upload)
    repo =
        lfs_repo(call, [&] { return require_writable(call, batch.ref.value_or(""), !batch.ref); });
  std::string transfer = transfer_of(call, batch);
  Json::Array items;
  for (const auto& object : batch.objects)
    items.push_back(batch.upload ? upload_item(call, repo, batch, object, transfer)
                                 : download_item(call, repo, object));
  return lfs_response(
      Json::Object{{"transfer", transfer}, {"objects", std::move(items)}, {"hash_algo", "sha256"}});
}

// ---- bytes: addresses that the batch gave -------------------------------------------------------

Response etag_response(const std::string& etag) {
  Response response;
  response.headers.set("ETag", "\"" + etag + "\"");
  return response;
}

Response put_object(Call& call) {
  Repo repo = require_signature(call, "lfs-put", true);
  const std::string& oid = call.captures.at("oid");
  uint64_t size = number_capture(call, "size");
  Body& body = *call.request.body;
  if (body.length().value_or(size) != size)
    throw HttpError(400, "",
                    "expected " + std::to_string(size) + " bytes, Content-Length says " +
                        std::to_string(*body.length()));
  call.services.content.put_object(repo.access.id, oid, size,
                                   [&](char* data, size_t n) { return body.read(data, n); });
  return etag_response(oid);
}

Response get_object(Call& call) {
  Repo repo = require_signature(call, "lfs-get");
  auto object = call.services.content.object(repo.access.id, call.captures.at("oid"));
  if (!object) throw HttpError(404, "EntryNotFound", "the object is not in this repository");
  Response response = etag_response(object->sha256);
  response.headers.set("Content-Type", "application/octet-stream");
  serve_object(call, response, *object);
  return response;
}

Response put_part(Call& call) {
  require_signature(call, "lfs-part", true);
  uint64_t number = number_capture(call, "number");
  if (number == 0 || number > kPartsLimit) throw HttpError(400, "", "no such part");
  Body& body = *call.request.body;
  return etag_response(
      call.services.content.put_part(call.captures.at("upload"), uint32_t(number),
                                     [&](char* data, size_t n) { return body.read(data, n); }));
}

Response complete(Call& call) {
  require_signature(call, "lfs-complete", true);
  Json body = read_json(call, 4 << 20);
  auto oid = optional_string_field(body, "oid");
  auto object = call.services.content.complete_multipart(call.captures.at("upload"));
  if (oid && *oid != object.sha256)
    throw HttpError(400, "", "the upload was of " + object.sha256 + ", not " + printable(*oid));
  return lfs_response(Json::Object{});
}

Response verify(Call& call) {
  Repo repo = require_signature(call, "lfs-verify", true);
  Json body = read_json(call);
  std::string oid = string_field(body, "oid");
  const Json* size = body.find("size");
  const int64_t* number = size ? size->get_if<int64_t>() : nullptr;
  auto object = is_hex(oid, 64) ? call.services.content.object(repo.access.id, oid) : std::nullopt;
  if (!object) throw HttpError(404, "", "the object was not uploaded");
  if (!number || uint64_t(*number) != object->size)
    throw HttpError(422, "", "the object has " + std::to_string(object->size) + " bytes");
  return lfs_response(Json::Object{});
}

// ---- the files of a repository ------------------------------------------------------------------

// Paths on main by SHA-256.
std::map<std::string, std::string> paths_on_main(Call& call, const Repo& repo) {
  std::map<std::string, std::string> paths;
  auto head = call.services.git.resolve(repo.access.id, "HEAD");
  if (!head) return paths;
  auto view = call.services.git.open(repo.access.id);
  view->list(*head, "", true, "", [&](const TreeEntry& entry) {
    if (entry.kind == TreeEntry::Kind::file)
      if (auto pointer = view->pointer(entry)) paths.emplace(pointer->sha256, entry.path);
    return true;
  });
  return paths;
}

Response list_files(Call& call) {
  Repo repo = require_repo(call, Role::read);
  constexpr size_t limit = 1000;
  std::string after = call.request.parameter("cursor").value_or("");
  if (!is_hex(after, 64)) after.clear();
  auto objects = call.services.content.committed(repo.access.id, after, limit + 1);
  auto paths = paths_on_main(call, repo);
  Json::Array files;
  std::string last;
  for (size_t i = 0; i < std::min(objects.size(), limit); ++i) {
    last = objects[i].sha256;
    auto path = paths.find(last);
    Json::Object file{{"fileOid", last},
                      {"oid", last},
                      {"filename", path == paths.end() ? "" : path->second},
                      {"size", int64_t(objects[i].size)},
                      {"pushedAt", iso8601(objects[i].pushed_at)}};
    file["ref"] = path == paths.end() ? Json(nullptr) : Json("refs/heads/main");
    files.push_back(std::move(file));
  }
  Response response = json_response(std::move(files));
  if (objects.size() > limit) add_next_link(call, response, {{"cursor", last}});
  return response;
}

std::set<std::string> deletions(Call& call) {
  Json body = read_json(call);
  const Json* inside = body.find("deletions");
  const Json* sha = inside ? inside->find("sha") : nullptr;
  const auto* list = sha ? sha->get_if<Json::Array>() : nullptr;
  if (!list) throw HttpError(400, "", "field 'deletions': expected {\"sha\": [...]}");
  std::set<std::string> result;
  for (const auto& item : *list) {
    const auto* text = item.get_if<std::string>();
    if (!text || !is_hex(*text, 64)) throw HttpError(400, "", "deletions: expected SHA-256");
    result.insert(*text);
  }
  return result;
}

// Only what no commit names any more: history is not rewritten behind anybody's back.
Response delete_files(Call& call) {
  Repo repo = require_repo(call, Role::write);
  auto doomed = deletions(call);
  auto generation = [&](Transaction& t) {
    auto row = t.one("SELECT generation FROM repos WHERE id = ?", repo.access.id);
    return row ? row->integer(0) : -1;
  };
  int64_t looked_at = call.services.database.read(generation);
  std::vector<Oid> tips;
  for (const auto& ref : call.services.git.refs(repo.access.id)) tips.push_back(ref.target);
  auto view = call.services.git.open(repo.access.id);
  std::set<std::string> named;
  for (const auto& pointer : view->pointers(tips, {})) named.insert(pointer.sha256);
  for (const auto& sha256 : doomed)
    if (named.contains(sha256))
      throw HttpError(409, "",
                      "The history of the repository still names " + sha256 +
                          "; delete the file, squash the branches that had it "
                          "(super-squash), then delete it here");
  call.services.database.write([&](Transaction& t) {
    if (generation(t) != looked_at)
      throw ConflictError("the repository has changed meanwhile; try again");
    call.services.content.drop_objects(t, repo.access.id, doomed);
  });
  call.services.accounts.audit(call.caller, "lfs.delete", repo.access.type + "/" + repo.full_name(),
                               std::to_string(doomed.size()) + " objects");
  return json_response(Json::Object{});
}

Repo duplication_target(Call& call, const Json& body) {
  const Json* target = body.find("target");
  if (!target) throw HttpError(400, "", "field 'target': expected an object");
  std::string type = optional_string_field(*target, "type").value_or("model");
  std::string name = string_field(*target, "name");
  size_t slash = name.find('/');
  Captures captures;
  captures.named = {{"type", type + "s"},
                    {"namespace", name.substr(0, slash)},
                    {"name", slash == name.npos ? "" : name.substr(slash + 1)}};
  Call there{call.request, captures, call.caller, call.services};
  return require_writable(there, "", true);
}

Response duplicate_files(Call& call) {
  Repo from = require_repo(call, Role::read);
  Json body = read_json(call, 4 << 20);
  Repo to = duplication_target(call, body);
  const Json* files = body.find("files");
  const auto* list = files ? files->get_if<Json::Array>() : nullptr;
  if (!list) throw HttpError(400, "", "field 'files': expected a list");
  Json::Array failed;
  int64_t succeeded = 0;
  for (const auto& file : *list) {
    std::string sha256 = string_field(file, "sha256");
    if (is_hex(sha256, 64) && call.services.content.share(from.access.id, to.access.id, sha256))
      ++succeeded;
    else
      failed.push_back(Json::Object{{"sha256", sha256}, {"error", "not in " + from.full_name()}});
  }
  return json_response(Json::Object{{"success", failed.empty()},
                                    {"processed", int64_t(list->size())},
                                    {"succeeded", succeeded},
                                    {"failed", failed}});
}

}  // namespace

std::vector<Route<ApiHandler>> lfs_routes() {
  std::vector<Route<ApiHandler>> routes{
      {"PUT", "/api/lfs/objects/{repo}/{oid}/{size}", put_object},
      {"GET", "/api/lfs/objects/{repo}/{oid}/{size}", get_object},
      {"PUT", "/api/lfs/multipart/{upload}/{number}", put_part},
      {"POST", "/api/lfs/multipart/{upload}", complete},
      {"POST", "/api/lfs/verify/{repo}", verify},
  };
  for (const std::string& prefix : kWebPatterns)
    for (std::string name : {"{name}.git", "{name}"}) {
      std::string lfs = prefix + name + "/info/lfs";
      routes.push_back({"POST", lfs + "/objects/batch", batch});
      for (auto& route : lock_routes(lfs)) routes.push_back(std::move(route));
    }
  const std::string repo = kRepoPattern;
  routes.push_back({"GET", repo + "/lfs-files", list_files});
  routes.push_back({"POST", repo + "/lfs-files/batch", delete_files});
  routes.push_back({"POST", repo + "/lfs-files/duplicate", duplicate_files});
  return routes;
}

}  // namespace pretrained::server
