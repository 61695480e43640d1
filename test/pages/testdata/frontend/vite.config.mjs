import vue from '@vitejs/plugin-vue';

export default { base: './', plugins: [vue()], esbuild: { jsx: 'automatic' }, build: { minify: false } };
