// What the files of a commit say about the model, for lists and info.

#include <algorithm>
#include <set>

#include "pretrained/safetensors/index.h"
#include "pretrained/safetensors/safetensors.h"
#include "server/repos/repos.h"

namespace pretrained::server {
namespace {

constexpr uint64_t kMaxText = 4 << 20;       // README.md, config.json
constexpr uint64_t kMaxIndex = 16 << 20;     // model.safetensors.index.json
constexpr uint64_t kMaxHeader = 32 << 20;    // of one safetensors file
constexpr uint64_t kMaxHeaders = 128 << 20;  // of all
constexpr uint64_t kMaxAnswer = 32 << 20;
constexpr size_t kMaxShards = 1024;
constexpr size_t kMaxTags = 1000;

// Files of one commit, whether they lie in git or in the content store.
class Files {
 public:
  Files(GitView& view, const Oid& commit, ContentStore& content, int64_t repo)
      : view_(view), commit_(commit), content_(content), repo_(repo) {}

  struct File {
    uint64_t size = 0;
    std::optional<ContentObject> object;
    Oid blob;
  };
  std::optional<File> find(const std::string& path) {
    auto entry = view_.entry(commit_, path);
    if (!entry || entry->kind != TreeEntry::Kind::file) return std::nullopt;
    auto pointer = view_.pointer(*entry);
    if (!pointer) return File{entry->size, std::nullopt, entry->oid};
    auto object = content_.object(repo_, pointer->sha256);
    if (!object) return std::nullopt;
    return File{object->size, object, {}};
  }
  std::string read(const File& file, uint64_t first, uint64_t length) {
    if (file.object) return content_.read_bytes(*file.object, first, length);
    return view_.read_blob(file.blob).substr(first, length);
  }
  std::optional<std::string> read_whole(const std::string& path, uint64_t limit) {
    auto file = find(path);
    if (!file || file->size > limit) return std::nullopt;
    return read(*file, 0, file->size);
  }
  bool any_safetensors() {
    bool found = false;
    view_.list(commit_, "", false, "", [&](const TreeEntry& entry) {
      found = entry.kind == TreeEntry::Kind::file && entry.path.ends_with(".safetensors");
      return !found;
    });
    return found;
  }

 private:
  GitView& view_;
  Oid commit_;
  ContentStore& content_;
  int64_t repo_;
};

// A file that breaks its format says nothing.
template <class F>
auto unless_malformed(F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const FormatError&) {
  } catch (const NotFoundError&) {
  }
  return {};
}

// What is written to the database is read with every list: so only what reads back, within the
// limits of Json::parse().
Json storable(const Json& json) {
  return unless_malformed([&] { return Json::parse(json.dump(0), "metadata"); });
}

const std::string* text_of(const Json& json, const std::string& field) {
  const Json* found = json.find(field);
  return found ? found->get_if<std::string>() : nullptr;
}

// ---- config.json and tokenizer_config.json
// ---------------------------------------------------------

Json read_json_file(Files& files, const std::string& path) {
  return unless_malformed([&]() -> Json {
    auto text = files.read_whole(path, kMaxText);
    if (!text) return {};
    Json json = Json::parse(*text, path);
    return json.get_if<Json::Object>() ? json : Json();
  });
}

Json read_tokenizer_config(Files& files) {
  Json all = read_json_file(files, "tokenizer_config.json");
  Json::Object kept;
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token", "chat_template"}) {
    const std::string* text = text_of(all, name);
    // Tokens may be written as {"content": "<s>", …}.
    if (const Json* token = all.find(name); token && !text) text = text_of(*token, "content");
    if (text) kept[name] = *text;
  }
  return kept.empty() ? Json() : Json(kept);
}

Json read_config(Files& files) {
  Json all = read_json_file(files, "config.json");
  if (all.is_null()) return {};
  Json::Object kept;
  for (const char* name : {"architectures", "model_type", "architecture", "auto_map"})
    if (const Json* field = all.find(name)) kept[name] = *field;
  if (Json tokenizer = read_tokenizer_config(files); !tokenizer.is_null())
    kept["tokenizer_config"] = tokenizer;
  return storable(kept);
}

// ---- safetensors
// ------------------------------------------------------------------------------------

struct Counts {
  std::map<std::string, int64_t> by_dtype;
  int64_t total = 0;
  uint64_t header_bytes = 0;
};

// Its length and its JSON, both checked; `total` is of all headers so far.
struct Header {
  std::string bytes;
  safetensors::Header parsed;
  std::string_view json() const { return std::string_view(bytes).substr(8); }
};
Header read_header(Files& files, const std::string& path, uint64_t& total, uint64_t most) {
  auto file = files.find(path);
  if (!file || file->size < 8) throw FormatError(path + ": missing or shorter than its header");
  std::string start = files.read(*file, 0, 8);
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<unsigned char>(start[i])} << 8 * i;
  if (length > kMaxHeader || length > file->size - 8 || (total += length) > most)
    throw FormatError(path + ": header of " + std::to_string(length) + " bytes");
  start += files.read(*file, 8, length);
  auto parsed = safetensors::parse_header(start, file->size, path);
  return {std::move(start), std::move(parsed)};
}

void count_tensors(Files& files, const std::string& path, Counts& counts) {
  Header header = read_header(files, path, counts.header_bytes, kMaxHeaders);
  for (const auto& tensor : header.parsed.tensors) {
    int64_t items = int64_t((tensor.end - tensor.begin) / safetensors::item_size(tensor.dtype));
    counts.by_dtype[safetensors::dtype_name(tensor.dtype)] += items;
    counts.total += items;
  }
}

std::optional<Counts> count_parameters(Files& files) {
  return unless_malformed([&]() -> std::optional<Counts> {
    Counts counts;
    if (files.find("model.safetensors")) {
      count_tensors(files, "model.safetensors", counts);
      return counts;
    }
    auto text = files.read_whole("model.safetensors.index.json", kMaxIndex);
    if (!text) return std::nullopt;
    auto shards = safetensors::parse_index(*text, "model.safetensors.index.json").files();
    if (shards.size() > kMaxShards) return std::nullopt;
    for (const auto& shard : shards) count_tensors(files, shard, counts);
    return counts;
  });
}

// ---- tags
// ---------------------------------------------------------------------------------------------

class Tags {
 public:
  void add(const std::string& tag) {
    if (!tag.empty() && tag.size() <= 200 && list_.size() < kMaxTags && seen_.insert(tag).second)
      list_.push_back(tag);
  }
  // A text or a list of texts, each with `prefix`. YAML's bare `no` is Norwegian here.
  void add_all(const Json* value, const std::string& prefix = "") {
    if (!value) return;
    if (auto text = value->get_if<std::string>()) add(prefix + *text);
    if (auto flag = value->get_if<bool>(); flag && !*flag) add(prefix + "no");
    if (auto list = value->get_if<Json::Array>())
      for (const auto& item : *list)
        if (!item.get_if<Json::Array>()) add_all(&item, prefix);
  }
  Json take() { return std::move(list_); }

 private:
  Json::Array list_;
  std::set<std::string> seen_;
};

Json make_tags(const Metadata& metadata, bool safetensors, bool dataset = false) {
  Tags tags;
  if (metadata.library_name) tags.add(*metadata.library_name);
  if (safetensors) tags.add("safetensors");
  if (auto type = text_of(metadata.config, "model_type")) tags.add(*type);
  if (metadata.pipeline_tag) tags.add(*metadata.pipeline_tag);
  tags.add_all(metadata.card.find("tags"));
  tags.add_all(metadata.card.find("language"), dataset ? "language:" : "");
  tags.add_all(metadata.card.find("datasets"), "dataset:");
  tags.add_all(metadata.card.find("base_model"), "base_model:");
  tags.add_all(metadata.card.find("license"), "license:");
  for (const char* name :
       {"task_categories", "task_ids", "size_categories", "multilinguality", "language_creators"})
    tags.add_all(metadata.card.find(name), std::string(name) + ":");
  return tags.take();
}

std::optional<std::string> pipeline_of(const Json& config) {
  static const std::pair<const char*, const char*> kinds[] = {
      {"ForCausalLM", "text-generation"},
      {"LMHeadModel", "text-generation"},
      {"ForImageClassification", "image-classification"},
      {"ForObjectDetection", "object-detection"},
      {"ForSemanticSegmentation", "image-segmentation"},
      {"ForSequenceClassification", "text-classification"},
      {"ForTokenClassification", "token-classification"},
      {"ForQuestionAnswering", "question-answering"},
      {"ForMaskedLM", "fill-mask"},
      {"ForSpeechSeq2Seq", "automatic-speech-recognition"},
      {"ForConditionalGeneration", "text2text-generation"}};
  const Json* field = config.find("architectures");
  const Json::Array* list = field ? field->get_if<Json::Array>() : nullptr;
  const std::string* name = list && !list->empty() ? (*list)[0].get_if<std::string>() : nullptr;
  if (!name) return std::nullopt;
  for (const auto& [end, kind] : kinds)
    if (name->ends_with(end)) return kind;
  return std::nullopt;
}

}  // namespace

std::string read_safetensors_headers(const std::string& index, GitView& view, const Oid& commit,
                                     ContentStore& content, int64_t repo) {
  Files files(view, commit, content, repo);
  auto text = files.read_whole(index, kMaxIndex);
  if (!text) throw NotFoundError(index + ": no such file, or one of more than 16 MiB");
  auto shards = safetensors::parse_index(*text, index).files();
  if (shards.size() > kMaxShards)
    throw FormatError(index + ": " + std::to_string(shards.size()) + " files, at most " +
                      std::to_string(kMaxShards) + " are read");
  Json all = Json::parse(*text, index);
  Json::Object facts;
  if (const Json* metadata = all.find("metadata")) facts["metadata"] = *metadata;
  std::string folder = index.substr(0, index.rfind('/') + 1), headers;
  uint64_t total = 0;
  for (const auto& shard : shards) {
    headers += (headers.empty() ? "" : ",") + Json(shard).dump(0) + ":";
    headers += read_header(files, folder + shard, total, kMaxAnswer).json();
  }
  return "{\"index\":" + Json(facts).dump(0) + ",\"headers\":{" + headers + "}}";
}

Metadata read_metadata(const std::string& type, GitView& view, const Oid& commit,
                       ContentStore& content, int64_t repo) {
  Files files(view, commit, content, repo);
  Metadata metadata;
  metadata.card = unless_malformed([&]() -> Json {
    auto readme = files.read_whole("README.md", kMaxText);
    return readme ? storable(parse_front_matter(*readme, "README.md")) : Json();
  });
  auto text = [&](const char* name) -> std::optional<std::string> {
    auto found = text_of(metadata.card, name);
    return found && found->size() <= 200 ? std::optional<std::string>(*found) : std::nullopt;
  };
  metadata.pipeline_tag = text("pipeline_tag");
  metadata.library_name = text("library_name");
  if (type == "space") metadata.sdk = text("sdk");
  if (type != "model") {
    metadata.tags = make_tags(metadata, false, type == "dataset");
    return metadata;
  }
  metadata.config = read_config(files);
  if (!metadata.library_name && metadata.config.find("model_type"))
    metadata.library_name = "transformers";
  if (!metadata.pipeline_tag) metadata.pipeline_tag = pipeline_of(metadata.config);
  if (auto counts = count_parameters(files)) {
    Json::Object parameters;
    for (const auto& [dtype, count] : counts->by_dtype) parameters[dtype] = count;
    metadata.weights = Json::Object{{"parameters", parameters}, {"total", counts->total}};
    metadata.parameters = counts->total;
  }
  metadata.tags = make_tags(metadata, files.any_safetensors());
  return metadata;
}

}  // namespace pretrained::server
