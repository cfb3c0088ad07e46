// Every line of the tutorial "Sharing custom models" (https://huggingface.co/docs/transformers/
// custom_models), in its order, against the hub at HF_ENDPOINT. Someone must be there to approve
// the login in a browser. Usage: tutorial FOLDER ORGANISATION
#include <pretrained/pretrained.h>

#include <iostream>

#include "resnet_model/configuration_resnet.h"
#include "resnet_model/modeling_resnet.h"

int main(int argc, char** argv) try {
  std::filesystem::path work = argc > 1 ? argv[1] : "tutorial";
  std::string organisation = argc > 2 ? argv[2] : "robots";

  // Writing a custom configuration
  ResnetConfig resnet50d_config{
      .block_type = "bottleneck", .stem_width = 32, .stem_type = "deep", .avg_down = true};
  resnet50d_config.save_pretrained(work / "custom-resnet");
  resnet50d_config = ResnetConfig::from_pretrained(work / "custom-resnet");

  // Writing a custom model
  ResnetModelForImageClassification resnet50d(resnet50d_config);
  auto pretrained_model = timm::create_model("resnet50d", {.pretrained = true});
  pretrained::load_state_dict(*resnet50d.model, pretrained::state_dict(*pretrained_model));

  // Registering a model with custom code to the auto classes
  ResnetConfig::register_for_auto_class();
  ResnetModel::register_for_auto_class("AutoModel");
  ResnetModelForImageClassification::register_for_auto_class("AutoModelForImageClassification");
  resnet50d.save_pretrained(work / "custom-resnet50d");

  // Sending the code to the Hub: into one's own namespace, and into an organisation's
  auto login = pretrained::login();
  std::cout << "logged in: " << login.user << "\n";
  auto config_commit = resnet50d_config.push_to_hub("custom-resnet");
  auto commit = resnet50d.push_to_hub("custom-resnet50d");
  auto shared = resnet50d.push_to_hub(organisation + "/custom-resnet50d", {.private_ = true});
  std::cout << "pushed: " << commit.commit_url << "\n"
            << "pushed: " << shared.commit_url << "\n"
            << "pushed: " << config_commit.commit_url << "\n";

  // Using a model with custom code: by name, and pinned to a commit
  std::string name = login.user + "/custom-resnet50d";
  auto model = pretrained::AutoModelForImageClassification::from_pretrained(
      name, {.trust_remote_code = true});
  auto pinned = pretrained::AutoModelForImageClassification::from_pretrained(
      organisation + "/custom-resnet50d", {.trust_remote_code = true, .revision = shared.oid});
  c10::InferenceMode guard;
  resnet50d.eval();
  auto image = torch::rand({1, 3, 64, 64});
  auto expected = resnet50d(image)["logits"], logits = model(image)["logits"];
  bool equal = torch::allclose(expected, logits, 1e-5, 1e-6) &&
               torch::equal(logits, pinned(image)["logits"]);
  auto with_loss = model({{"tensor", image}, {"labels", torch::tensor({7})}});
  std::cout << "loaded: " << model->model_class().name << ", logits equal: " << equal
            << ", loss: " << with_loss["loss"].item<float>() << "\n";

  // The bare model from the same repository's code
  auto config = pretrained::AutoConfig::from_pretrained(name, {.trust_remote_code = true});
  auto features = pretrained::AutoModel::from_config(config)(image)["output"];
  std::cout << "features: " << features.sizes()
            << ", stem: " << config.get<std::string>("stem_type") << "\n";

  // Registering a library's own classes
  pretrained::AutoConfig::register_<ResnetConfig>("resnet");
  pretrained::AutoModel::register_<ResnetConfig, ResnetModel>();
  pretrained::AutoModelForImageClassification::register_<ResnetConfig,
                                                         ResnetModelForImageClassification>();
  auto registered = pretrained::AutoModelForImageClassification::from_pretrained(name);
  bool same = torch::equal(registered(image)["logits"], logits);
  std::cout << "registered class, no code compiled: " << same << "\n";
  return equal && same ? 0 : 1;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
