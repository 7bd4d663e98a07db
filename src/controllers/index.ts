// The controller manager's public face.

export type { ControllerSettings } from './context.ts';
export {
  type ControllerName,
  type ControllersOptions,
  controllerNames,
  type RunningControllers,
  startControllers,
} from './controllers.ts';
