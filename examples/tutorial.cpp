// Every listing of the tutorial "Sharing custom models", in its order. A hub's rows point at a
// folder here. Usage: tutorial FOLDER
#include <pretrained/pretrained.h>

#include <iostream>

#include "resnet_model/configuration_resnet.h"
#include "resnet_model/modeling_resnet.h"

int main(int argc, char** argv) try {
  std::filesystem::path work = argc > 1 ? argv[1] : "tutorial";

  // Writing a custom configuration
  ResnetConfig resnet50d_config{
      .block_type = "bottleneck", .stem_width = 32, .stem_type = "deep", .avg_down = true};
  resnet50d_config.save_pretrained(work / "custom-resnet");
  resnet50d_config = ResnetConfig::from_pretrained(work / "custom-resnet");

  // Writing a custom model
  ResnetModelForImageClassification resnet50d(resnet50d_config);
  timm::ResNet pretrained_model = timm::create_model("resnet50d");
  pretrained::load_state_dict(*resnet50d.model, pretrained::state_dict(*pretrained_model));
  resnet50d.eval();

  // Registering a model with custom code to the auto classes
  ResnetConfig::register_for_auto_class();
  ResnetModel::register_for_auto_class("AutoModel");
  ResnetModelForImageClassification::register_for_auto_class("AutoModelForImageClassification");

  // Sharing: weights, config and code
  resnet50d.save_pretrained(work / "custom-resnet50d");

  // Using a model with custom code
  auto model = pretrained::AutoModelForImageClassification::from_pretrained(
      work / "custom-resnet50d", {.trust_remote_code = true});
  c10::InferenceMode guard;
  auto image = torch::rand({1, 3, 64, 64});
  auto expected = resnet50d(image)["logits"], logits = model(image)["logits"];
  auto with_loss = model({{"tensor", image}, {"labels", torch::tensor({7})}});
  std::cout << "loaded: " << model->model_class().name
            << ", logits equal: " << torch::allclose(expected, logits, 1e-5, 1e-6)
            << ", loss: " << with_loss["loss"].item<float>() << "\n";

  // The bare model from the same folder's code
  auto config = pretrained::AutoConfig::from_pretrained(work / "custom-resnet50d",
                                                        {.trust_remote_code = true});
  auto features = pretrained::AutoModel::from_config(config)(image)["output"];
  std::cout << "features: " << features.sizes()
            << ", stem: " << config.get<std::string>("stem_type") << "\n";

  // Registering a library's own classes
  pretrained::AutoConfig::register_<ResnetConfig>("resnet");
  pretrained::AutoModel::register_<ResnetConfig, ResnetModel>();
  pretrained::AutoModelForImageClassification::register_<ResnetConfig,
                                                         ResnetModelForImageClassification>();
  auto registered =
      pretrained::AutoModelForImageClassification::from_pretrained(work / "custom-resnet50d");
  std::cout << "registered class, no code compiled: "
            << torch::equal(registered(image)["logits"], logits) << "\n";
  return torch::allclose(expected, logits, 1e-5, 1e-6) ? 0 : 1;
} catch (const pretrained::Error& error) {
  std::cerr << error.what() << "\n";
  return error.exit_code();
}
