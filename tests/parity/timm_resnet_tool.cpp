// timm::ResNet for timm_resnet.py.
//   list [PATTERN] | list-pretrained        names, one per line
//   config NAME                             the default config as JSON
//   names OPTIONS                           state_dict: name, dtype, shape, in order
//   run OPTIONS IN.safetensors OUT.safetensors   loads "weights.*", runs "x" in eval mode: logits,
//   features, intermediates,
//                                           pre_logits; with OPTIONS "grad": training mode and
//                                           gradients of (logits * g).sum()
// OPTIONS is JSON: {"name": …} for create_model, else fields of ResNetOptions.
#include <pretrained/model/modeling.h>
#include <pretrained/model/weights.h>
#include <pretrained/nn/create_model.h>
#include <torch/torch.h>

#include <iostream>

using pretrained::Json;
using pretrained::NamedTensors;

template <class T>
static void set(const Json& json, const char* key, T& field) {
  if (auto* value = json.find(key)) pretrained::read_field(*value, field, {"options", key});
}

static timm::ResNet make(const Json& json) {
  if (auto* name = json.find("name")) {
    timm::CreateModelOptions options;
    set(json, "num_classes", options.num_classes);
    set(json, "in_chans", options.in_chans);
    set(json, "output_stride", options.output_stride);
    set(json, "global_pool", options.global_pool);
    set(json, "drop_rate", options.drop_rate);
    set(json, "drop_path_rate", options.drop_path_rate);
    return timm::create_model(*name->get_if<std::string>(), options);
  }
  timm::ResNetOptions o;
  set(json, "block", o.block);
  set(json, "layers", o.layers);
  set(json, "num_classes", o.num_classes);
  set(json, "in_chans", o.in_chans);
  set(json, "output_stride", o.output_stride);
  set(json, "global_pool", o.global_pool);
  set(json, "cardinality", o.cardinality);
  set(json, "base_width", o.base_width);
  set(json, "stem_width", o.stem_width);
  set(json, "stem_type", o.stem_type);
  set(json, "replace_stem_pool", o.replace_stem_pool);
  set(json, "block_reduce_first", o.block_reduce_first);
  set(json, "down_kernel_size", o.down_kernel_size);
  set(json, "avg_down", o.avg_down);
  set(json, "drop_rate", o.drop_rate);
  set(json, "drop_path_rate", o.drop_path_rate);
  set(json, "zero_init_last", o.zero_init_last);
  return timm::ResNet(o);
}

static void run(const Json& options, const char* in, const char* out) {
  auto model = make(options);
  if (auto* classes = options.find("reset")) model->reset_classifier(*classes->get_if<int64_t>());
  NamedTensors weights, results;
  auto input = pretrained::load_file(in);
  for (auto& [name, tensor] : input)
    if (name.starts_with("weights.")) weights.insert(name.substr(8), tensor);
  pretrained::load_state_dict(*model, weights);
  if (options.find("grad")) {
    model->train();
    (model->forward(input["x"]) * input["g"]).sum().backward();
    for (auto& item : model->named_parameters()) results.insert(item.key(), item.value().grad());
  } else {
    c10::InferenceMode guard;
    model->eval();
    auto features = model->forward_features(input["x"]);
    results.insert("logits", model->forward(input["x"]));
    results.insert("features", features);
    results.insert("pre_logits", model->forward_head(features, true));
    auto maps = model->forward_intermediates(input["x"]);
    for (size_t i = 0; i < maps.size(); ++i) results.insert("map" + std::to_string(i), maps[i]);
  }
  pretrained::save_file(results, out);
}

static void print_config(const timm::DefaultConfig& c) {
  auto list = [](const auto& values) {
    Json::Array items;
    for (auto value : values) items.push_back(value);
    return Json(items);
  };
  bool test_size = c.test_input_size[0] != 0;
  Json::Object json{{"hf_hub_id", c.hf_hub_id},
                    {"input_size", list(c.input_size)},
                    {"pool_size", list(c.pool_size)},
                    {"crop_pct", c.crop_pct},
                    {"crop_mode", c.crop_mode},
                    {"interpolation", c.interpolation},
                    {"mean", list(c.mean)},
                    {"std", list(c.std)},
                    {"num_classes", c.num_classes},
                    {"first_conv", c.first_conv},
                    {"classifier", c.classifier},
                    {"test_input_size", test_size ? list(c.test_input_size) : Json()},
                    {"test_crop_pct", c.test_crop_pct > 0 ? Json(c.test_crop_pct) : Json()}};
  std::cout << Json(json).dump(0) << "\n";
}

int main(int argc, char** argv) try {
  torch::set_num_threads(2);
  std::string what = argv[1];
  if (what == "list")
    for (auto& name : timm::list_models(argc > 2 ? argv[2] : "*")) std::cout << name << "\n";
  if (what == "list-pretrained")
    for (auto& name : timm::list_models("*", true)) std::cout << name << "\n";
  if (what == "config")
    for (int i = 2; i < argc; ++i) print_config(timm::default_config(argv[i]));
  if (what == "names") {
    auto model = make(Json::parse(argv[2], "options"));
    for (auto& [name, tensor] : pretrained::state_dict(*model))
      std::cout << name << " " << pretrained::dtype_name(tensor.scalar_type()) << " "
                << tensor.sizes() << "\n";
    for (auto& item : model->named_parameters())
      if (item.value().abs().max().item<float>() == 0) std::cout << "zero " << item.key() << "\n";
  }
  if (what == "run") run(Json::parse(argv[2], "options"), argv[3], argv[4]);
  return 0;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
