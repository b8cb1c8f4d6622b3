/** The part of wgsl_reflect's browser module that the kernel conformance test reads; the package has no types at this path. */
declare module 'wgsl_reflect/wgsl_reflect.module.js' {
  interface Reflected {
    readonly name: string
    readonly access: string
    readonly type: {
      readonly name: string
      readonly members?: readonly { readonly name: string; readonly type: { readonly name: string } }[]
    }
  }
  export class WgslReflect {
    constructor(wgsl: string)
    getBindGroups(): (Reflected | undefined)[][]
  }
}
