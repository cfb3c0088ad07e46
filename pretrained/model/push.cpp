#include <ATen/CPUGeneratorImpl.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <torch/torch.h>
#include <unistd.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/hub/model_card.h"
#include "pretrained/hub/upload.h"
#include "pretrained/model/auto.h"
#include "pretrained/model/custom_code.h"

// From model to hub: save, prove, publish.

namespace pretrained {
namespace fs = std::filesystem;
namespace {

// Locked while it is used. What a killed process left, weights and all, goes with the next push.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const fs::path parent = fs::temp_directory_path();
    sweep(parent);
    do {  // once more where another's sweep took it before it was locked
      std::string name = (parent / (kPrefix + std::string("XXXXXX"))).string();
      if (!mkdtemp(name.data())) throw_errno(name, errno);
      path_ = name;
      lock_ = open_folder(path_);
      if (lock_.get() < 0 && errno != ENOENT) throw_errno(name, errno);
    } while (flock(lock_.get(), LOCK_EX) != 0 || status_of(lock_).st_nlink == 0);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  fs::path path() const { return path_ / "model"; }  // saving locks the folder it saves into

 private:
  static constexpr const char* kPrefix = "pretrained-push-";

  static FileDescriptor open_folder(const fs::path& path) {
    return FileDescriptor(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  }
  static struct stat status_of(const FileDescriptor& folder) {
    struct stat status{};
    fstat(folder.get(), &status);
    return status;
  }
  static void sweep(const fs::path& parent) {
    std::error_code error, ignored;
    for (fs::directory_iterator at(parent, error), end; !error && at != end; at.increment(error)) {
      if (!at->path().filename().string().starts_with(kPrefix)) continue;
      FileDescriptor folder = open_folder(at->path());
      if (flock(folder.get(), LOCK_EX | LOCK_NB) == 0 && status_of(folder).st_uid == geteuid())
        fs::remove_all(at->path(), ignored);
    }
  }

  fs::path path_;
  FileDescriptor lock_;
};

hub::HubClient client_for(const PushToHub& options) {
  hub::ClientOptions client;
  if (!options.token.empty()) client.token = options.token;
  client.notice = options.notice;
  return hub::HubClient(client);
}

// A model card, where the repository has none.
void add_card(const hub::HubClient& client, const std::string& repo, const fs::path& folder,
              const PushToHub& options) {
  try {
    if (!client.paths_info({repo}, options.revision, {"README.md"}).empty()) return;
  } catch (const hub::RevisionNotFound&) {  // a new branch is made from main
    if (!client.paths_info({repo}, "main", {"README.md"}).empty()) return;
  }
  FieldPath at;
  Json config = detail::read_config_file(folder / "config.json", at);
  hub::ModelCard card{.repo_id = repo, .auto_class = "AutoModel", .tags = options.tags};
  AutoMap auto_map = read_auto_map(config, "config.json");
  card.trust_remote_code = !auto_map.empty();
  for (auto& [auto_class, reference] : auto_map)
    if (auto_class != "AutoConfig") card.auto_class = auto_class;  // the most special one is last
  if (card.auto_class == AutoModelForImageClassification::name)
    card.pipeline_tag = "image-classification";
  write_file_atomically(folder / "README.md", hub::model_card(card));
}

PushResult publish(const hub::HubClient& client, const std::string& repo, const fs::path& folder,
                   const PushToHub& options, const std::string& message) {
  auto commit = hub::upload_folder(
      client, {repo}, folder,
      {.commit_message = options.commit_message.empty() ? message : options.commit_message,
       .commit_description = options.commit_description,
       .revision = options.revision,
       .create_pr = options.create_pr,
       .on_transfer = options.on_transfer});
  return {commit.commit_url, commit.oid, commit.pr_url};
}

// The saved model, of the class that its own code gives.
std::shared_ptr<Model> load_saved(const Model& model, const fs::path& folder,
                                  const PushToHub& options) {
  FieldPath at;
  Json json = detail::read_config_file(folder / "config.json", at);
  // The code of this very program.
  TrustPolicy ours{.ask = [](auto&) { return true; }, .record = false};
  FromPretrained loading{
      .trust_remote_code = ours, .variant = options.variant, .notice = options.notice};
  const ModelClass* found = &model.model_class();
  if (AutoMap auto_map = read_auto_map(json, "config.json"); !auto_map.empty()) {
    found = nullptr;
    Located saved{folder, folder / "config.json", "", ""};
    for (auto& [auto_class, one] : load_custom_code(saved, auto_map, loading).models)
      if (one->name == model.model_class().name) found = one;
    if (!found)
      throw Error("the code that would be published has no class " + model.model_class().name +
                  ": call " + model.model_class().name + "::register_for_auto_class(\"Auto…\")");
  }
  auto config = found->config->read(json, {"config.json", ""});
  return detail::make_for_loading(*found, *config, folder, loading);
}

bool same(const torch::Tensor& a, const torch::Tensor& b, double tolerance) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  return torch::allclose(a.cpu(), b.cpu(), tolerance, tolerance, /*equal_nan=*/true);
}

void compare_tensors(const NamedTensors& ours, const NamedTensors& saved, double tolerance,
                     const std::string& what) {
  for (auto& [name, tensor] : ours) {
    auto* other = saved.find(name);
    if (!other || !same(tensor, *other, tolerance))
      throw Error("what was saved does not give what the model gives: " + what + " '" +
                  printable(name) + "' differs; nothing was published");
  }
}

NamedTensors example_for(const Model& model, const PushToHub& options) {
  NamedTensors inputs;
  auto place = torch::TensorOptions(model.dtype()).device(model.device());
  if (options.example.begin() == options.example.end()) {
    auto generator = at::detail::createCPUGenerator(0);  // not the program's own random numbers
    auto image = torch::rand({1, 3, 224, 224}, generator);
    inputs.insert(model.model_class().inputs.front(), image.to(place));
  }
  for (auto& [name, tensor] : options.example)
    inputs.insert(name, tensor.is_floating_point() ? tensor.to(place) : tensor.to(model.device()));
  return inputs;
}

// Nothing where there is no example and the model does not take a random image.
std::optional<NamedTensors> outputs_of(Model& model, const NamedTensors& inputs,
                                       const PushToHub& options) {
  bool given = options.example.begin() != options.example.end();
  try {
    return model.call(inputs);
  } catch (const std::exception&) {
    if (given) throw;
    if (options.notice)
      options.notice(model.model_class().name +
                     " does not take a random image: its outputs were not compared, its weights "
                     "were. Give PushToHub::example to have both.");
    return std::nullopt;
  }
}

void prove(Model& model, const fs::path& folder, const PushToHub& options) {
  auto saved = load_saved(model, folder, options);
  compare_tensors(model.state_dict(), saved->state_dict(), 0, "tensor");
  saved->to(model.device());
  bool was_training = model.is_training();
  model.eval();
  torch::NoGradGuard no_grad;
  try {
    NamedTensors inputs = example_for(model, options);
    if (auto ours = outputs_of(model, inputs, options))
      compare_tensors(*ours, saved->call(inputs), 1e-5, "output");
  } catch (...) {
    model.train(was_training);
    throw;
  }
  model.train(was_training);
}

}  // namespace

PushResult Model::push_to_hub(const std::string& repo, const PushToHub& options) {
  auto client = client_for(options);
  std::string id = client.full_repo_id(repo);
  TemporaryFolder folder;
  save_pretrained(folder.path(), {.max_shard_size = options.max_shard_size,
                                  .variant = options.variant,
                                  .progress = options.progress,
                                  .notice = options.notice});
  if (options.prove) prove(*this, folder.path(), options);
  client.create_repo({id}, {.private_ = options.private_, .exist_ok = true});
  add_card(client, id, folder.path(), options);
  return publish(client, id, folder.path(), options, "Upload model");
}

namespace detail {

PushResult push_config(const Json& config, const std::string& repo, const PushToHub& options) {
  auto client = client_for(options);
  std::string id = client.full_repo_id(repo);
  TemporaryFolder folder;
  write_config_file(folder.path(), config);
  client.create_repo({id}, {.private_ = options.private_, .exist_ok = true});
  return publish(client, id, folder.path(), options, "Upload config");
}

}  // namespace detail
}  // namespace pretrained
