#include "pretrained/model/modeling.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "../../tests/kill_everywhere.h"
#include "../../tests/models/tiny/layers/head.cpp"
#include "../../tests/models/tiny/modeling_tiny.h"
#include "pretrained/base/files.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/lock.h"
#include "pretrained/model/auto.h"
#include "pretrained/model/weights.h"

namespace model_test {

namespace fs = std::filesystem;
using namespace pretrained;
using tiny::TinyForScoring;
using tiny::TinyModel;

struct TiedConfig : PretrainedConfig<TiedConfig> {
  static constexpr auto model_type = "tied";
  PRETRAINED_FIELDS()
};
struct TiedModel : PreTrainedModel<TiedModel, TiedConfig> {
  static constexpr std::array inputs{"x"};
  torch::nn::Linear a, b;
  explicit TiedModel(const Config& config)
      : PreTrainedModel(config),
        a(register_module("a", torch::nn::Linear(2, 2))),
        b(register_module("b", torch::nn::Linear(2, 2))) {
    b->weight.set_data(a->weight.data());
  }
  torch::Tensor forward(torch::Tensor x) { return b(a(x)); }
};
struct PlainDerivation : TinyModel {
  using TinyModel::TinyModel;
  NamedTensors forward(torch::Tensor) { return {}; }
};

template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class Modeling : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::temp_directory_path() / ("pretrained-model-" + std::to_string(getpid()));
    fs::remove_all(folder);
    trust_file = folder.string() + "-trust.json";
    fs::remove(trust_file);
    setenv("PRETRAINED_TRUST_FILE", trust_file.c_str(), 1);
    setenv("PRETRAINED_CODE_CACHE", (fs::temp_directory_path() / "pretrained-test-code").c_str(),
           0);
  }
  void TearDown() override {
    fs::remove_all(folder);
    for (auto* beside : {"", ".lock", ".code"}) fs::remove_all(trust_file.string() + beside);
  }
  std::string saved(const TinyConfig& config = {}) {
    TinyModel model(config);
    model.save_pretrained(folder);
    return folder;
  }
  fs::path folder, trust_file;
};

TEST_F(Modeling, IsCalledByPositionAndByName) {
  TinyModel model(TinyConfig{.hidden_size = 2});
  auto x = torch::ones({1, 3});
  EXPECT_TRUE(torch::equal(model(x)["hidden"], model({{"tensor", x}})["hidden"]));
  EXPECT_TRUE(torch::equal(model(x, torch::tensor(2.0))["hidden"],
                           model({{"scale", torch::tensor(2.0)}, {"tensor", x}})["hidden"]));
  EXPECT_EQ(error_of([&] { model({{"tenser", x}}); }),
            "tiny::TinyModel: there is no input 'tenser'; the inputs are 'tensor', 'scale'");
  EXPECT_EQ(error_of([&] { model({{"scale", x}}); }),
            "tiny::TinyModel: the input 'tensor' is missing; the inputs are 'tensor', 'scale'");
  EXPECT_EQ(error_of([&] { model(x)["logits"]; }),
            "there is no tensor 'logits'; there are: hidden, sum");
  EXPECT_THROW(model.call_in_order({x, x, x}), ArgumentError);
  EXPECT_THROW((NamedTensors{{"a", x}, {"a", x}}), ArgumentError);
}

TEST_F(Modeling, DerivesWithTheParentAsArgumentOnly) {
  TinyForScoring model(TinyConfig{});
  auto x = torch::ones({1, 3});
  EXPECT_TRUE(torch::equal(model(x), model({{"tensor", x}})["output"]));
  EXPECT_EQ(model.model_class().name, "tiny::TinyForScoring");
  PlainDerivation plain(TinyConfig{});
  EXPECT_NE(error_of([&] {
              plain.call({{"tensor", x}});
            }).find("PreTrainedModel<My, MyConfig, tiny::TinyModel>"),
            std::string::npos);
  EXPECT_NE(error_of([&] { plain.save_pretrained(folder); }).find("PreTrainedModel<My"),
            std::string::npos);
}

TEST_F(Modeling, WorksOnTheStackForEveryPublicCall) {
  TinyModel model(TinyConfig{});
  EXPECT_EQ(model.modules().size(), 2u);
  int visited = 0;
  model.apply([&](torch::nn::Module&) { ++visited; });
  EXPECT_EQ(visited, 2);
  EXPECT_EQ(model.named_modules().size(), 2u);
  model.to(torch::kFloat64);
  EXPECT_EQ(model.dtype(), torch::kFloat64);
  EXPECT_EQ(model.num_parameters(), 16);
  model.linear->bias.set_requires_grad(false);
  EXPECT_EQ(model.num_parameters(true), 12);
  EXPECT_TRUE(model.device().is_cpu());
  static_assert(!std::is_copy_constructible_v<TinyModel>);
}

TEST_F(Modeling, TrainsInALoopOfOnesOwn) {
  TinyModel model(TinyConfig{});
  torch::nn::init::ones_(model.linear->weight);
  torch::optim::SGD optimizer(model.parameters(), 0.01);
  double first = 0, last = 0;
  for (int i = 0; i < 20; ++i) {
    optimizer.zero_grad();
    auto loss = (model(torch::ones({2, 3}))["hidden"] - 1).square().mean();
    loss.backward();
    optimizer.step();
    (i == 0 ? first : last) = loss.item<double>();
  }
  EXPECT_LT(last, first / 2);
}

TEST_F(Modeling, AnInvalidConfigBuildsNothing) {
  EXPECT_THROW(TinyModel(TinyConfig{.hidden_size = -1}), ConfigError);
  EXPECT_THROW(TinyForScoring(TinyConfig{.hidden_size = 0}), ConfigError);
}

TEST_F(Modeling, StateDictHasPyTorchsReport) {
  TinyModel a(TinyConfig{}), b(TinyConfig{});
  EXPECT_TRUE(a.load_state_dict(b.state_dict()).all_matched());
  EXPECT_TRUE(torch::equal(a.linear->weight, b.linear->weight));
  NamedTensors wrong{{"linear.weight", torch::zeros({4, 3})}, {"linear.bais", torch::zeros({4})}};
  EXPECT_EQ(error_of([&] { a.load_state_dict(wrong); }).substr(0, 51),
            "Error(s) in loading state_dict for tiny::TinyModel:");
  EXPECT_EQ(a.load_state_dict(wrong, false).missing_keys, std::vector<std::string>{"linear.bias"});
  EXPECT_THROW(a.load_state_dict({{"linear.weight", torch::zeros({1})}}, false), WeightsError);
}

TEST_F(Modeling, SavesAndLoadsStrictly) {
  saved(TinyConfig{.hidden_size = 5});
  LoadReport report;
  auto model = TinyModel::from_pretrained(folder, {.report = &report});
  EXPECT_TRUE(report.all_matched());
  EXPECT_FALSE(model->is_training());
  EXPECT_EQ(model->config().hidden_size, 5);
  save_file({{"linear.weight", torch::zeros({5, 3})}, {"other", torch::zeros({1})}},
            folder / "model.safetensors");
  try {
    TinyModel::from_pretrained(folder);
    ADD_FAILURE();
  } catch (const WeightsError& error) {
    EXPECT_EQ(error.missing, std::vector<std::string>{"linear.bias"});
    EXPECT_EQ(error.unexpected, std::vector<std::string>{"other"});
  }
  EXPECT_NO_THROW(TinyModel::from_pretrained(
      folder, {.allow_missing = {"*.bias"}, .allow_unexpected = {"oth*"}}));
  EXPECT_THROW(TinyModel::from_pretrained(folder, {.config_overrides = {{"hidden_size", 6}},
                                                   .allow_missing = {"*"},
                                                   .allow_unexpected = {"*"}}),
               WeightsError);
  auto resized = TinyModel::from_pretrained(folder, {.config_overrides = {{"hidden_size", 6}},
                                                     .allow_missing = {"*"},
                                                     .allow_unexpected = {"*"},
                                                     .ignore_mismatched_sizes = true,
                                                     .report = &report});
  EXPECT_EQ(report.mismatched_keys, std::vector<std::string>{"linear.weight"});
  EXPECT_EQ(resized->linear->weight.size(0), 6);
  fs::remove(folder / "model.safetensors");
  EXPECT_NE(error_of([&] {
              TinyModel::from_pretrained(folder);
            }).find("Error no file named model.safetensors"),
            std::string::npos);
}

TEST_F(Modeling, LoadsDtypesVariantsMappingsAndSubfolders) {
  TinyModel model(TinyConfig{});
  model.to(torch::kBFloat16);
  model.save_pretrained(folder / "sub", {.variant = "bf16"});
  EXPECT_TRUE(fs::exists(folder / "sub/model.bf16.safetensors"));
  EXPECT_EQ(TinyModel::from_pretrained(folder, {.subfolder = "sub", .variant = "bf16"})->dtype(),
            torch::kBFloat16);
  EXPECT_EQ(
      TinyModel::from_pretrained(folder / "sub", {.variant = "bf16", .dtype = "float32"})->dtype(),
      torch::kFloat32);
  EXPECT_THROW(TinyModel::from_pretrained(folder / "sub", {.variant = "bf16", .dtype = "float99"}),
               ArgumentError);
  EXPECT_THROW(TinyModel::from_pretrained(folder / "sub", {.variant = "../x"}), ArgumentError);
  EXPECT_THROW(TinyModel::from_pretrained(folder, {.subfolder = "../sub"}), ArgumentError);
  save_file({{"old.w", torch::ones({4, 3})}, {"old.b", torch::ones({4})}},
            folder / "sub/model.safetensors");
  auto mapped = TinyModel::from_pretrained(
      folder / "sub",
      {.dtype = "float32",
       .key_mapping = {{"^old[.]w$", "linear.weight"}, {"^old[.]b$", "linear.bias"}}});
  EXPECT_EQ(mapped->linear->bias.sum().item<float>(), 4);
  EXPECT_THROW(TinyModel::from_pretrained(folder / "sub", {.key_mapping = {{"(", ""}}}),
               ArgumentError);
}

TEST_F(Modeling, ShardsAreCheckedAndStaleOnesRemoved) {
  TinyModel model(TinyConfig{.hidden_size = 100});
  model.save_pretrained(folder, {.max_shard_size = "500"});
  EXPECT_TRUE(fs::exists(folder / "model-00002-of-00002.safetensors"));
  EXPECT_TRUE(
      torch::equal(TinyModel::from_pretrained(folder)->linear->weight, model.linear->weight));
  fs::copy(folder, folder.string() + "-2");
  write_file_atomically(folder.string() + "-2/model.safetensors.index.json",
                        R"({"weight_map": {"linear.weight": "model-00001-of-00002.safetensors"}})");
  EXPECT_THROW(TinyModel::from_pretrained(folder.string() + "-2"), FormatError);
  fs::remove_all(folder.string() + "-2");
  model.save_pretrained(folder);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 2)
      << "config.json and model.safetensors";
  model.save_pretrained(folder, {.max_shard_size = "500"});
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
}

// A model whose config and weights say the same number.
void save_number(const fs::path& folder, int number, const SavePretrained& options = {}) {
  torch::NoGradGuard no_grad;
  TinyModel model(TinyConfig{.hidden_size = 3});
  model.config().num_labels = number;
  for (auto& parameter : model.parameters()) parameter.fill_(number);
  model.save_pretrained(folder, options);
}

int loaded_number(const fs::path& folder) {
  auto model = TinyModel::from_pretrained(folder);
  int number = int(model->config().num_labels);
  for (auto& parameter : model->parameters()) EXPECT_TRUE((parameter == number).all().item<bool>());
  return number;
}

TEST_F(Modeling, ASaveKilledAnywhereLeavesOneModelWhole) {
  std::set<int> seen;
  auto prepare = [&] {
    fs::remove_all(folder);
    save_number(folder, 2, {.max_shard_size = "40"});
  };
  kill_everywhere(
      prepare, [&] { save_number(folder, 5); }, [&] { seen.insert(loaded_number(folder)); });
  EXPECT_EQ(seen, (std::set<int>{2, 5}));
}

TEST_F(Modeling, AFailedSaveChangesNothing) {
  save_number(folder, 2);
  EXPECT_THROW(save_number(folder, 5, {.max_shard_size = "many"}), ArgumentError);
  EXPECT_EQ(loaded_number(folder), 2);
  EXPECT_THROW(saved(TinyConfig{.hidden_size = 0}), ConfigError);
  EXPECT_FALSE(fs::exists(folder / ".pretrained-save"));
}

TEST_F(Modeling, TiedWeightsAreStoredOnce) {
  TiedModel model(TiedConfig{});
  model.save_pretrained(folder);
  EXPECT_FALSE(load_file(folder / "model.safetensors").contains("b.weight"));
  auto loaded = TiedModel::from_pretrained(folder);
  EXPECT_TRUE(torch::equal(loaded->b->weight, model.a->weight));
  for (auto* dtype : {"float32", "bfloat16"}) {
    loaded = TiedModel::from_pretrained(folder, {.dtype = dtype});
    EXPECT_EQ(loaded->b->weight.data_ptr(), loaded->a->weight.data_ptr()) << dtype;
  }
}

TEST_F(Modeling, LoadingReportsItsProgressInBytes) {
  saved();
  std::vector<uint64_t> seen;
  auto progress = [&](uint64_t done, uint64_t total) {
    seen.push_back(done);
    EXPECT_EQ(total, 64u);
  };
  TinyModel::from_pretrained(folder, {.dtype = "bfloat16", .progress = progress});
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 48, 64}));
}

TEST_F(Modeling, TrainingChangesNeitherFileNorOtherReaders) {
  saved();
  auto before = read_file(folder / "model.safetensors");
  auto a = TinyModel::from_pretrained(folder), b = TinyModel::from_pretrained(folder);
  {
    torch::NoGradGuard guard;
    a->linear->weight.fill_(9);
  }
  EXPECT_EQ(read_file(folder / "model.safetensors"), before);
  EXPECT_NE(b->linear->weight[0][0].item<float>(), 9);
}

TEST_F(Modeling, SavesItsCodeAndLoadsItByFolder) {
  TinyConfig::register_for_auto_class();
  TinyModel::register_for_auto_class("AutoModel");
  TinyForScoring::register_for_auto_class("AutoModelForScoring");
  TinyModel model(TinyConfig{.hidden_size = 7});
  model.save_pretrained(folder);
  for (auto* file : {"configuration_tiny.h", "modeling_tiny.h", "layers/head.h", "layers/head.cpp"})
    EXPECT_TRUE(fs::exists(folder / file)) << file;
  try {
    AutoModel::from_pretrained(folder);
    ADD_FAILURE();
  } catch (const UntrustedCode& error) {
    EXPECT_EQ(error.files, (std::vector<std::string>{"configuration_tiny.h", "layers/head.cpp",
                                                     "layers/head.h", "modeling_tiny.h"}));
  }
  auto x = torch::ones({2, 3});
  auto any = AutoModel::from_pretrained(folder, {.trust_remote_code = true});
  EXPECT_TRUE(torch::equal(any(x)["hidden"], model(x)["hidden"]));
  EXPECT_EQ(any.config().get<int64_t>("hidden_size"), 7);
  EXPECT_EQ(any.config().as<TinyConfig>().hidden_size, 7);
  EXPECT_THROW(any.config().get<int64_t>("nothing"), ArgumentError);
  EXPECT_THROW(any.config().get<std::string>("hidden_size"), ConfigError);
  EXPECT_THROW(
      AutoModelForImageClassification::from_pretrained(folder, {.trust_remote_code = true}),
      NotFoundError);
  // Saved again from its verified sources, it loads again.
  any->save_pretrained(folder / "again");
  EXPECT_EQ(read_file(folder / "again/layers/head.cpp"), read_file(folder / "layers/head.cpp"));
  EXPECT_NO_THROW(AutoModel::from_pretrained(folder / "again", {.trust_remote_code = true}));
  fs::remove(folder / "modeling_tiny.h");
  EXPECT_NE(error_of([&] {
              AutoModel::from_pretrained(folder, {.trust_remote_code = true});
            }).find("neither modeling_tiny.h"),
            std::string::npos);
}

TEST_F(Modeling, CodeRunsAsItWasTrustedAndNoOther) {
  TinyConfig::register_for_auto_class();
  TinyModel::register_for_auto_class("AutoModel");
  TinyModel(TinyConfig{}).save_pretrained(folder);
  auto review = review_code(folder);
  EXPECT_EQ(review.files.size(), 4u);
  std::vector<std::string> notices;
  auto keep = [&](const std::string& line) { notices.push_back(line); };
  EXPECT_NO_THROW(AutoModel::from_pretrained(folder, {.trust_remote_code = true, .notice = keep}));
  EXPECT_TRUE(std::any_of(notices.begin(), notices.end(),
                          [](auto& line) { return line.starts_with("trusted from now on"); }));
  EXPECT_NO_THROW(AutoModel::from_pretrained(folder));
  EXPECT_THROW(AutoModel::from_pretrained(folder, {.trust_remote_code = false}), UntrustedCode);
  EXPECT_THROW(AutoModel::from_pretrained(
                   folder, {.trust_remote_code = TrustPolicy{.repositories = {"org/*"}}}),
               UntrustedCode);
  std::string head = read_file(folder / "layers/head.cpp");
  write_file_atomically(folder / "layers/head.cpp", head + " ");
  try {
    AutoModel::from_pretrained(folder, {.trust_remote_code = true});
    ADD_FAILURE();
  } catch (const UntrustedCode& error) {
    EXPECT_NE(error.diff.find("+++ b/layers/head.cpp"), std::string::npos) << error.diff;
    EXPECT_NE(
        std::string(error.what()).find("pretrained trust add " + fs::canonical(folder).string()),
        std::string::npos)
        << error.what();
  }
  write_file_atomically(folder / "layers/head.cpp", head);
  EXPECT_NO_THROW(AutoModel::from_pretrained(folder));
  EXPECT_EQ(code::TrustFile().revoke(fs::canonical(folder)).size(), 1u);
  EXPECT_THROW(AutoModel::from_pretrained(folder), UntrustedCode) << "though it is still loaded";
  EXPECT_THROW(review_code(folder / "layers"), NotFoundError);
}

TEST_F(Modeling, ALockIsHeeded) {
  TinyConfig::register_for_auto_class();
  TinyModel::register_for_auto_class("AutoModel");
  TinyModel(TinyConfig{}).save_pretrained(folder / "sub");
  fs::path file = folder / "sub/pretrained.lock";
  write_file_atomically(file, hub::lock_folder(folder).text());
  FromPretrained options{.trust_remote_code = true, .subfolder = "sub", .lock = file};
  EXPECT_NO_THROW(AutoModel::from_pretrained(folder, options));
  EXPECT_NO_THROW(TinyModel::from_pretrained(folder, options));
  for (auto* name : {"config.json", "modeling_tiny.h", "layers/head.cpp", "model.safetensors"}) {
    std::string bytes = read_file(folder / "sub" / name), changed = bytes;
    changed.back() ^= 1;
    write_file_atomically(folder / "sub" / name, changed);
    EXPECT_NE(error_of([&] { AutoModel::from_pretrained(folder, options); }).find(name),
              std::string::npos);
    write_file_atomically(folder / "sub" / name, bytes);
  }
  write_file_atomically(folder / "sub/more.h", "");
  EXPECT_NE(error_of([&] { AutoConfig::from_pretrained(folder, options); }).find("not in the lock"),
            std::string::npos);
  fs::remove(folder / "sub/more.h");
  options.variant = "other";
  fs::copy(folder / "sub/model.safetensors", folder / "sub/model.other.safetensors");
  EXPECT_NE(error_of([&] { AutoModel::from_pretrained(folder, options); }).find("model.other"),
            std::string::npos);
}

TEST_F(Modeling, AThousandLoadsLeaveMemoryFlat) {
  TinyConfig::register_for_auto_class();
  TinyModel::register_for_auto_class("AutoModel");
  TinyModel(TinyConfig{}).save_pretrained(folder);
  auto load = [&] { AutoModel::from_pretrained(folder, {.trust_remote_code = true}); };
  auto count = [](const char* path) {
    return std::distance(fs::directory_iterator(path), fs::directory_iterator());
  };
  auto resident = [] {
    std::ifstream file("/proc/self/statm");
    long all, pages;
    file >> all >> pages;
    return pages * sysconf(_SC_PAGESIZE);
  };
  for (int i = 0; i < 50; ++i) load();
  auto files = count("/proc/self/fd"), threads = count("/proc/self/task");
  auto memory = resident();
  for (int i = 0; i < 1000; ++i) load();
  EXPECT_EQ(count("/proc/self/fd"), files);
  EXPECT_EQ(count("/proc/self/task"), threads);
  EXPECT_LT(resident() - memory, 4 << 20);
}

TEST_F(Modeling, CompilesWithTheFallbackCompiler) {
  setenv("PRETRAINED_CXX", "g++", 1);
  TinyConfig::register_for_auto_class();
  TinyModel::register_for_auto_class("AutoModel");
  TinyModel model(TinyConfig{});
  model.save_pretrained(folder);
  auto x = torch::ones({2, 3});
  auto loaded = AutoModel::from_pretrained(folder, {.trust_remote_code = true});
  EXPECT_TRUE(torch::equal(loaded(x)["hidden"], model(x)["hidden"]));
  unsetenv("PRETRAINED_CXX");
}

TEST_F(Modeling, RegisteredClassesComeFirstAndAreChecked) {
  TiedModel(TiedConfig{}).save_pretrained(folder / "tied");
  EXPECT_NE(error_of([&] { AutoModel::from_pretrained(folder / "tied"); }).find("register one"),
            std::string::npos);
  saved();
  EXPECT_NE(error_of([&] {
              AutoConfig::register_<TinyConfig>("other");
            }).find("not consistent with the model type you passed (config has tiny"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              AutoModel::register_<TiedConfig, TinyModel>();
            }).find("not consistent with the config class you passed"),
            std::string::npos);
  AutoConfig::register_<TinyConfig>("tiny");
  AutoConfig::register_<TinyConfig>("tiny");
  AutoModel::register_<TinyConfig, TinyModel>();
  EXPECT_EQ(AutoModel::from_pretrained(folder)->model_class().name, "tiny::TinyModel");
  EXPECT_EQ(AutoConfig::from_pretrained(folder, {.config_overrides = {{"hidden_size", 9}}})
                .get<int64_t>("hidden_size"),
            9);
  EXPECT_NE(error_of([&] {
              AutoModel::register_<TinyConfig, TinyForScoring>();
            }).find("already used by a Transformers model"),
            std::string::npos);
  AutoModel::register_<TinyConfig, TinyForScoring>(true);
  EXPECT_EQ(AutoModel::from_config(AnyConfig(TinyConfig{}))->model_class().name,
            "tiny::TinyForScoring");
  EXPECT_TRUE(AutoModel::unregister<TinyConfig>());
  EXPECT_TRUE(AutoConfig::unregister("tiny"));
  EXPECT_FALSE(AutoConfig::unregister("tiny"));
  EXPECT_EQ(error_of([] { TinyModel::register_for_auto_class("AutoFoo"); }),
            "AutoFoo is not a valid auto class.");
  EXPECT_THROW(AutoModel::from_pretrained("no-such-folder"), NotFoundError);
  EXPECT_THROW(AutoModel::from_pretrained("org/name", {.local_files_only = true}),
               hub::OfflineError);
}

TEST_F(Modeling, CodeOfAnOlderApiLevelStillCompiles) {
  auto config =
      AutoConfig::from_pretrained(PRETRAINED_TESTS_DIR "/api_level/1", {.trust_remote_code = true});
  auto model = AutoModel::from_config(config);
  EXPECT_EQ(model(torch::ones({1, 2}))["z"].size(1), 3);
}

TEST_F(Modeling, HostileConfigsAreTypedErrors) {
  fs::create_directories(folder);
  for (auto* text :
       {R"({"auto_map_cpp": null})", R"({"auto_map_cpp": {"AutoModel": "/etc/passwd.C"}})",
        R"({"auto_map_cpp": {"AutoModel": ["a", "b"]}})",
        R"({"auto_map_cpp": {"AutoModel\"); system(\"": "m.C"}})", R"({"model_type": []})",
        R"({"model_type": {"a": 1}})", "[]", "{", "null",
        R"({"model_type": "tiny", "model_type": "x"})", R"({"auto_map_cpp": {"AutoModel": "m.C"}})",
        R"({})", R"({"auto_map": null, "model_type": "zzz"})"}) {
    write_file_atomically(folder / "config.json", text);
    EXPECT_THROW(AutoModel::from_pretrained(folder, {.trust_remote_code = true}), Error) << text;
    EXPECT_THROW(AutoConfig::from_pretrained(folder, {.trust_remote_code = true}), Error) << text;
  }
}

TEST(NoInit, LeavesOtherConstructionAlone) {
  torch::manual_seed(0);
  torch::nn::Linear before(8, 8);
  EXPECT_GT(before->weight.abs().sum().item<float>(), 0);
}

}  // namespace model_test
