#include "pretrained/hub/preupload.h"

#include <openssl/evp.h>

#include <algorithm>
#include <map>

#include "pretrained/hub/blob_hash.h"

namespace pretrained::hub {
namespace {

constexpr size_t kFilesPerCall = 256, kSample = 512;

// Rules that come with this upload count for it.
void add_rules(const std::vector<LocalFile>& files, const char* name, const char* key,
               Json::Object& body) {
  auto rules = std::ranges::find(files, name, &LocalFile::path);
  if (rules != files.end() && rules->size < kSample * 512)
    body[key] = SourceFile(*rules).read_whole();
}

Json entry(const LocalFile& file) {
  std::string sample(size_t(std::min<uint64_t>(file.size, kSample)), '\0');
  SourceFile(file).read(0, sample.data(), sample.size());
  return Json::Object{
      {"path", file.path}, {"sample", base64(sample)}, {"size", int64_t(file.size)}};
}

UploadMode read_mode(const Json& item, const LocalFile& file) {
  auto text = [&](const char* key) {
    const Json* value = item.find(key);
    const auto* found = value ? value->get_if<std::string>() : nullptr;
    return found ? *found : std::string();
  };
  UploadMode mode;
  std::string how = text("uploadMode");
  if (how != "lfs" && how != "regular")
    throw IntegrityError("preupload: " + file.path + ": the hub answers '" + printable(how) +
                         "', neither lfs nor regular");
  mode.is_large = how == "lfs" && file.size > 0;
  const Json* ignored = item.find("shouldIgnore");
  mode.ignored = ignored && ignored->get_if<bool>() && *ignored->get_if<bool>();
  if (std::string oid = text("oid"); is_etag(oid)) mode.oid = oid;
  return mode;
}

}  // namespace

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), int(bytes.size()));
  text.resize(size_t(size));
  return text;
}

std::vector<UploadMode> preupload(const HubClient& client, const Repo& repo,
                                  const std::string& revision, bool create_pr,
                                  const std::vector<LocalFile>& files, UploadProgress& progress) {
  std::vector<UploadMode> modes;
  const std::string url = client.api_url(repo) + "/preupload/" + url_encode(revision) +
                          (create_pr ? "?create_pr=1" : "");
  while (modes.size() < files.size()) {
    size_t begin = modes.size(), end = std::min(begin + kFilesPerCall, files.size());
    Json::Object body;
    add_rules(files, ".gitignore", "gitIgnore", body);
    add_rules(files, ".gitattributes", "gitAttributes", body);
    Json::Array entries;
    for (size_t i = begin; i < end; ++i) entries.push_back(entry(files[i]));
    body["files"] = std::move(entries);
    Json request = std::move(body);
    progress.sent(request.dump(0).size());
    Json answer = client.send_json("POST", url, request, repo.id + "@" + revision + ": upload");

    std::map<std::string, const Json*> answers;
    const Json* list = answer.find("files");
    if (const auto* items = list ? list->get_if<Json::Array>() : nullptr)
      for (auto& item : *items)
        if (const Json* path = item.find("path"); path && path->get_if<std::string>())
          answers[*path->get_if<std::string>()] = &item;
    for (size_t i = begin; i < end; ++i) {
      auto found = answers.find(files[i].path);
      if (found == answers.end())
        throw IntegrityError("preupload: the hub says nothing about " + files[i].path);
      modes.push_back(read_mode(*found->second, files[i]));
    }
  }
  return modes;
}

}  // namespace pretrained::hub
