#include "pretrained/model/weights.h"

#include <torch/torch.h>

#include <regex>
#include <set>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/safetensors/index.h"
#include "pretrained/safetensors/pickle.h"
#include "pretrained/safetensors/safetensors.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace st = safetensors;
namespace {

struct Name {
  const char* name;  // as config.json spells it
  torch::Dtype torch;
  st::Dtype file;
};
constexpr Name kDtypes[] = {{"bool", torch::kBool, st::Dtype::BOOL},
                            {"uint8", torch::kUInt8, st::Dtype::U8},
                            {"int8", torch::kInt8, st::Dtype::I8},
                            {"float8_e5m2", torch::kFloat8_e5m2, st::Dtype::F8_E5M2},
                            {"float8_e4m3fn", torch::kFloat8_e4m3fn, st::Dtype::F8_E4M3},
                            {"float8_e4m3fnuz", torch::kFloat8_e4m3fnuz, st::Dtype::F8_E4M3FNUZ},
                            {"float8_e5m2fnuz", torch::kFloat8_e5m2fnuz, st::Dtype::F8_E5M2FNUZ},
                            {"float8_e8m0fnu", torch::kFloat8_e8m0fnu, st::Dtype::F8_E8M0},
                            {"int16", torch::kInt16, st::Dtype::I16},
                            {"uint16", torch::kUInt16, st::Dtype::U16},
                            {"float16", torch::kFloat16, st::Dtype::F16},
                            {"bfloat16", torch::kBFloat16, st::Dtype::BF16},
                            {"int32", torch::kInt32, st::Dtype::I32},
                            {"uint32", torch::kUInt32, st::Dtype::U32},
                            {"float32", torch::kFloat32, st::Dtype::F32},
                            {"complex64", torch::kComplexFloat, st::Dtype::C64},
                            {"float64", torch::kFloat64, st::Dtype::F64},
                            {"int64", torch::kInt64, st::Dtype::I64},
                            {"uint64", torch::kUInt64, st::Dtype::U64}};

torch::Dtype torch_dtype(st::Dtype dtype) {
  for (auto& known : kDtypes)
    if (known.file == dtype) return known.torch;
  throw FormatError(std::string("no torch dtype for ") + st::dtype_name(dtype));
}

// A tensor on mapped bytes, aligned or not.
torch::Tensor view(char* data, at::IntArrayRef shape, at::IntArrayRef strides, st::Dtype dtype,
                   std::shared_ptr<char> mapping) {
  auto options = torch::TensorOptions(torch_dtype(dtype));
  return torch::from_blob(data, shape, strides, [mapping](void*) {}, options);
}

bool is_aligned(const at::Tensor& tensor) {
  auto size = std::min<size_t>(tensor.element_size(), 8);
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % size == 0;
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * std::max<int64_t>(shape[i], 1);
  return strides;
}

void add_safetensors(const st::File& file, NamedTensors& tensors) {
  for (auto& info : file.header().tensors)
    tensors.insert(info.name, view(file.data(info), info.shape, contiguous_strides(info.shape),
                                   info.dtype, file.mapping()));
}

void add_pickle(const st::PickleFile& file, NamedTensors& tensors) {
  for (auto& info : file.tensors())
    tensors.insert(info.name,
                   view(file.data(info), info.shape, info.strides, info.dtype, file.mapping()));
}

NamedTensors load_sharded(const fs::path& folder, const std::string& index_name) {
  std::string source = (folder / index_name).string();
  st::Index index = st::parse_index(read_inside(folder, index_name, 64 << 20), source);
  NamedTensors tensors;
  std::map<std::string, std::vector<std::string>> by_file;
  uint64_t size = 0;
  for (auto& name : index.files()) {
    st::File file(open_inside(folder, name), (folder / name).string());
    for (auto& info : file.header().tensors) {
      by_file[name].push_back(info.name);
      size += info.end - info.begin;
    }
    for (auto& info : file.header().tensors)
      if (auto listed = index.weight_map.find(info.name);
          listed == index.weight_map.end() || listed->second != name)
        st::check_index(index, {{name, by_file[name]}}, size, source);  // throws, naming the tensor
    add_safetensors(file, tensors);
  }
  st::check_index(index, by_file, size, source);
  return tensors;
}

// Copies are made of what a file does not align. A few bytes that many names, or a stride of 0,
// show as gigabytes are refused: together they are at most as large as the file.
NamedTensors align_all(const NamedTensors& tensors, const fs::path& path) {
  uint64_t left = fs::file_size(path);
  NamedTensors out;
  for (auto& [name, tensor] : tensors) {
    at::Tensor copy = tensor;
    if (!is_aligned(tensor)) {
      if (tensor.nbytes() > left)
        throw FormatError(path.string() + ": tensor '" + printable(name) +
                          "': it is not aligned, and a copy would be larger than the file");
      left -= tensor.nbytes();
      copy = tensor.clone();
    }
    out.insert(name, copy);
  }
  return out;
}

// Whether there is anything of that name; what it is, and where a link leads, opening tells.
bool present(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

[[noreturn]] void throw_no_weights(const fs::path& folder, const std::string& variant) {
  std::string hint;
  if (!variant.empty() && present(folder / "model.safetensors"))
    hint = "; there is model.safetensors, without a variant";
  throw NotFoundError("Error no file named " + st::weights_name(variant) + ", " +
                      st::index_name(variant) + " or pytorch_model" +
                      (variant.empty() ? "" : "." + variant) + ".bin found in directory " +
                      folder.string() + hint);
}

std::vector<st::TensorData> describe(const NamedTensors& tensors,
                                     std::vector<torch::Tensor>& contiguous) {
  std::vector<st::TensorData> data;
  for (auto& [name, tensor] : tensors) {
    const Name* found = nullptr;
    for (auto& known : kDtypes)
      if (known.torch == tensor.scalar_type()) found = &known;
    if (!found)
      throw ArgumentError("tensor '" + printable(name) + "': safetensors has no dtype for " +
                          toString(tensor.scalar_type()));
    contiguous.push_back(tensor.detach().cpu().contiguous());
    data.push_back(
        {name, found->file, contiguous.back().sizes().vec(), contiguous.back().data_ptr()});
  }
  return data;
}

// Of several names for one tensor, the first by name is written, as Transformers does for tied
// weights.
NamedTensors without_ties(const NamedTensors& tensors) {
  std::map<std::tuple<const void*, int64_t>, std::string> kept;
  for (auto& [name, tensor] : tensors) {
    if (tensor.numel() == 0) continue;
    auto& first = kept[{tensor.data_ptr(), tensor.numel()}];
    if (first.empty() || name < first) first = name;
  }
  NamedTensors unique;
  for (auto& [name, tensor] : tensors)
    if (tensor.numel() == 0 || kept[{tensor.data_ptr(), tensor.numel()}] == name)
      unique.insert(name, tensor);
  return unique;
}

// Weights of an earlier save under the same variant, in other shards.
void remove_stale(FolderUpdate& update, const std::string& variant,
                  const std::set<std::string>& fresh) {
  std::string stem = fs::path(st::weights_name(variant)).stem().string();
  std::string escaped = std::regex_replace(stem, std::regex("[.]"), "[.]");
  std::regex shard(escaped + "-[0-9]{5}-of-[0-9]{5}[.]safetensors");
  for (auto& entry : fs::directory_iterator(update.folder())) {
    std::string name = entry.path().filename();
    bool ours = std::regex_match(name, shard) || name == st::index_name(variant) ||
                name == st::weights_name(variant);
    if (ours && !fresh.contains(name)) update.remove(name);
  }
}

}  // namespace

torch::Dtype parse_dtype(const std::string& name) {
  for (auto& known : kDtypes)
    if (name == known.name) return known.torch;
  throw ArgumentError("dtype: there is no '" + printable(name, 40) +
                      "'; for example float32, bfloat16, float16");
}

std::string dtype_name(torch::Dtype dtype) {
  for (auto& known : kDtypes)
    if (dtype == known.torch) return known.name;
  throw ArgumentError(std::string("dtype: no name for ") + toString(dtype));
}

at::Tensor aligned(const at::Tensor& tensor) {
  return is_aligned(tensor) ? tensor : tensor.clone();
}

NamedTensors load_file(const fs::path& path) {
  NamedTensors tensors;
  if (path.extension() == ".bin" || path.extension() == ".pt" || path.extension() == ".pth")
    add_pickle(st::PickleFile(path), tensors);
  else
    add_safetensors(st::File(path), tensors);
  return align_all(tensors, path);
}

void save_file(const NamedTensors& tensors, const fs::path& path) {
  std::vector<torch::Tensor> contiguous;
  auto data = describe(tensors, contiguous);
  finish_update(path.parent_path());  // else it would put an older file in this one's place
  AtomicFile file(path);
  st::write(file, data);
  file.commit();
}

std::vector<std::string> weights_files(const fs::path& folder, const std::string& variant) {
  st::check_variant(variant);
  finish_update(folder);
  std::string single = st::weights_name(variant), index = st::index_name(variant),
              bin = "pytorch_model" + (variant.empty() ? "" : "." + variant) + ".bin";
  if (present(folder / single)) return {single};
  if (!present(folder / index)) return {bin};
  std::string text = read_inside(folder, index, 64 << 20);
  auto files = st::parse_index(text, (folder / index).string()).files();
  files.push_back(index);
  return files;
}

NamedTensors load_folder(const fs::path& folder, const std::string& variant) {
  st::check_variant(variant);
  finish_update(folder);
  NamedTensors tensors;
  std::string single = st::weights_name(variant),
              bin = "pytorch_model" + (variant.empty() ? "" : "." + variant) + ".bin";
  if (present(folder / single)) {
    add_safetensors(st::File(open_inside(folder, single), (folder / single).string()), tensors);
  } else if (present(folder / st::index_name(variant))) {
    return load_sharded(folder, st::index_name(variant));
  } else if (present(folder / bin)) {
    add_pickle(st::PickleFile(open_inside(folder, bin), (folder / bin).string()), tensors);
  } else {
    throw_no_weights(folder, variant);
  }
  return tensors;
}

void add_weights(FolderUpdate& update, const NamedTensors& all, const SavePretrained& options) {
  st::check_variant(options.variant);
  std::vector<torch::Tensor> contiguous;
  auto data = describe(without_ties(all), contiguous);
  std::vector<uint64_t> sizes;
  st::Index index;
  int64_t total = 0, parameters = 0;
  for (auto& tensor : data) {
    sizes.push_back(tensor.size());
    total += int64_t(tensor.size());
    parameters += int64_t(tensor.size() / st::item_size(tensor.dtype));
  }
  auto shards = st::plan_shards(sizes, st::parse_size(options.max_shard_size));
  std::set<std::string> fresh;
  uint64_t before = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    std::string name = st::weights_name(options.variant, i, shards.size());
    std::vector<st::TensorData> part;
    uint64_t part_size = 0;
    for (size_t place : shards[i]) {
      part.push_back(data[place]);
      part_size += sizes[place];
      index.weight_map[data[place].name] = name;
    }
    auto report = [&](uint64_t done, uint64_t) {
      options.progress(before + done, uint64_t(total));
    };
    st::write(update.add(name), part, {{"format", "pt"}},
              options.progress ? st::Progress(report) : st::Progress());
    fresh.insert(name);
    before += part_size;
  }
  if (shards.size() > 1) {
    index.total_size = total;
    index.total_parameters = parameters;
    update.add(st::index_name(options.variant)).write(st::write_index(index));
    fresh.insert(st::index_name(options.variant));
  }
  remove_stale(update, options.variant, fresh);
}

}  // namespace pretrained
