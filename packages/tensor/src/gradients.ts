// Registers the gradient of every TensorFlow.js kernel. In bundlers this is tfjs-core's own module; in Node, whose
// resolver cannot read that module's extensionless imports, it is the copy that the build bundles into
// `dist/gradients.js` (tfjs keeps its engine and registries on `globalThis`, so a second copy of the code is harmless).
import '#gradients';
