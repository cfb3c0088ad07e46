#include <filesystem>
#include <iostream>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/code/closure.h"
#include "pretrained/hub/client.h"
#include "pretrained/hub/settings.h"
#include "pretrained/model/auto.h"
#include "pretrained/model/custom_code.h"
#include "pretrained/model/locate.h"
#include "pretrained/safetensors/index.h"
#include "pretrained/safetensors/safetensors.h"
#include "verbs.h"

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

// What a folder holds, without running any of it and without reading the weights' bytes.
struct Contents {
  Json config;
  AutoMap auto_map;
  code::Sources sources;
  std::vector<safetensors::TensorInfo> tensors;
};

void append(const std::vector<safetensors::TensorInfo>& tensors, Contents& contents) {
  contents.tensors.insert(contents.tensors.end(), tensors.begin(), tensors.end());
}

// As loading does: a shard that the index does not describe ends it before the next is read.
void read_sharded(const fs::path& folder, const std::string& index_name, Contents& contents) {
  std::string source = (folder / index_name).string();
  auto index = safetensors::parse_index(read_inside(folder, index_name, 64 << 20), source);
  std::map<std::string, std::vector<std::string>> by_file;
  uint64_t size = 0;
  for (auto& name : index.files()) {
    safetensors::File file(open_inside(folder, name), (folder / name).string());
    for (auto& tensor : file.header().tensors) {
      by_file[name].push_back(tensor.name);
      size += tensor.end - tensor.begin;
    }
    for (auto& tensor : file.header().tensors)
      if (auto listed = index.weight_map.find(tensor.name);
          listed == index.weight_map.end() || listed->second != name)
        safetensors::check_index(index, {{name, by_file[name]}}, size, source);  // throws
    append(file.header().tensors, contents);
  }
  safetensors::check_index(index, by_file, size, source);
}

Contents read_weights_file(const fs::path& path) {
  Contents contents;
  try {
    append(safetensors::File(path).header().tensors, contents);
  } catch (const FormatError& error) {
    if (path.extension() == ".safetensors") throw;
    throw FormatError(path.string() +
                      ": not a .safetensors file; inspect takes the folder of a model or a "
                      ".safetensors file");
  }
  return contents;
}

// The header of a file on a hub, without what follows it.
safetensors::Header read_remote_header(const hub::HubClient& client, const Located& model,
                                       const hub::RemoteFile& file) {
  std::string source = model.name() + ": " + file.path, bytes;
  auto read_to = [&](uint64_t end) {
    hub::HttpRequest request{.url = client.web_url({model.repo}) + "/resolve/" + model.commit +
                                    "/" + hub::url_encode(file.path, true),
                             .headers = {{"Range", "bytes=" + std::to_string(bytes.size()) + "-" +
                                                       std::to_string(end - 1)}},
                             .body_limit = safetensors::kMaxHeader + 8};
    auto answer = client.http().send(request);
    if (answer.status != 206) hub::throw_for_status(answer, source);
    bytes += answer.body;
  };
  if (file.size < 8) throw FormatError(source + ": not a .safetensors file");
  read_to(std::min<uint64_t>(file.size, 1 << 16));
  uint64_t length = 0;
  for (int i = 7; bytes.size() >= 8 && i >= 0; --i)
    length = length << 8 | static_cast<unsigned char>(bytes[size_t(i)]);
  uint64_t end = std::min(file.size, length <= safetensors::kMaxHeader ? length + 8 : 8);
  if (bytes.size() < end) read_to(end);
  return safetensors::parse_header(bytes, file.size, source);
}

// What weights a repository holds: only the headers of its files cross the network.
void read_remote_weights(const Located& model, Contents& contents) {
  hub::HubClient client;
  std::string whole = safetensors::weights_name(""), index = safetensors::index_name("");
  std::vector<std::string> files = {whole};
  if (fs::exists(model.folder / index))
    files = safetensors::parse_index(read_inside(model.folder, index, 64 << 20), index).files();
  for (auto& file : client.paths_info({model.repo}, model.commit, files))
    append(read_remote_header(client, model, file).tensors, contents);
}

// Config and code.
Contents read_description(const fs::path& folder) {
  Contents contents;
  FieldPath at;
  contents.config = detail::read_config_file(folder, at);
  contents.auto_map = read_auto_map(contents.config, (folder / "config.json").string());
  std::vector<std::string> modules;
  for (auto& [auto_class, reference] : contents.auto_map)
    if (reference.repo.empty()) modules.push_back(reference.module);
  if (!modules.empty()) contents.sources = code::read_sources(folder, modules);
  return contents;
}

Contents read_folder(const fs::path& folder) {
  Contents contents = read_description(folder);
  std::string whole = safetensors::weights_name(""), index = safetensors::index_name("");
  if (fs::exists(folder / whole)) {
    safetensors::File file(open_inside(folder, whole), (folder / whole).string());
    append(file.header().tensors, contents);
  } else if (fs::exists(folder / index)) {
    read_sharded(folder, index, contents);
  }
  return contents;
}

Contents read_contents(const std::string& name, const std::string& revision) {
  if (fs::is_regular_file(name)) return read_weights_file(name);
  Located model = locate(name, {.revision = revision});
  if (model.repo.empty() || hub::is_offline()) return read_folder(model.folder);
  Contents contents = read_description(model.folder);
  read_remote_weights(model, contents);
  return contents;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out;
  for (auto size : shape) out += (out.empty() ? "" : ", ") + std::to_string(size);
  return "[" + out + "]";
}

void print_json(const Contents& contents) {
  Json::Object classes;
  Json::Array files, tensors;
  for (auto& [auto_class, reference] : contents.auto_map) classes[auto_class] = reference.text();
  for (auto& source : contents.sources)
    files.push_back(Json::Object{{"path", source.path}, {"bytes", int64_t(source.bytes.size())}});
  for (auto& tensor : contents.tensors) {
    Json::Array shape;
    for (auto size : tensor.shape) shape.push_back(size);
    tensors.push_back(Json::Object{{"name", tensor.name},
                                   {"dtype", safetensors::dtype_name(tensor.dtype)},
                                   {"shape", shape},
                                   {"bytes", int64_t(tensor.end - tensor.begin)}});
  }
  Json::Object all{
      {"config", contents.config}, {"classes", classes}, {"code", files}, {"tensors", tensors}};
  if (!contents.sources.empty()) all["code_sha256"] = code::digest(contents.sources);
  std::cout << Json(all).dump(0) << "\n";
}

void print_text(const Contents& contents) {
  if (auto* fields = contents.config.get_if<Json::Object>()) {
    std::cout << "config\n";
    for (auto& [key, value] : *fields)
      if (key != "auto_map_cpp")
        std::cout << "  " << printable(key) << ": " << printable(value.dump(0), 100) << "\n";
  }
  if (!contents.auto_map.empty()) std::cout << "classes\n";
  for (auto& [auto_class, reference] : contents.auto_map)
    std::cout << "  " << auto_class << ": " << reference.text() << "\n";
  if (!contents.sources.empty())
    std::cout << "code (sha256 " << code::digest(contents.sources).substr(0, 16) << "…)\n";
  for (auto& source : contents.sources)
    std::cout << "  " << printable(source.path) << "  " << source.bytes.size() << " bytes\n";
  uint64_t bytes = 0;
  for (auto& tensor : contents.tensors) bytes += tensor.end - tensor.begin;
  std::cout << "tensors (" << contents.tensors.size() << ", " << bytes << " bytes)\n";
  for (auto& tensor : contents.tensors)
    std::cout << "  " << printable(tensor.name) << "  " << safetensors::dtype_name(tensor.dtype)
              << " " << shape_text(tensor.shape) << "  " << tensor.end - tensor.begin << " bytes\n";
}

}  // namespace

void inspect(const Inspect& arguments) {
  Contents contents = read_contents(arguments.model, arguments.revision);
  arguments.common.json ? print_json(contents) : print_text(contents);
}

}  // namespace pretrained::cli
